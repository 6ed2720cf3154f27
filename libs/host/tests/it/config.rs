use crate::harness::load;

#[test]
fn the_defaults_are_well_formed() {
    let config = load(&[]).unwrap();
    assert_eq!(config.host.listen("ai-broker").unwrap().port(), 9103);
    assert!(config.host.clone().without_grpc_sockets().listen("ai-broker").is_none());
    assert!(config.host.clone().without_grpc_sockets().listen("facade").is_some());
    assert_ne!(config.host.instance(), config.host.instance());
}

#[test]
fn every_mistake_is_named_at_once() {
    let errors = load(&[
        ("WEIR_HOST__ADMIN_LISTEN", "9100"),
        ("WEIR_HOST__LISTEN__QUOTA", "localhost"),
        ("WEIR_HOST__LISTEN__COFFEE", "127.0.0.1:1"),
        ("WEIR_HOST__ADVERTISE", "http://me"),
        ("WEIR_HOST__DRAIN", "0s"),
        ("WEIR_HOST__PROBE_MISSES", "0"),
        ("WEIR_HOST__HTTP__MAX_HEADER_BYTES", "1"),
        ("WEIR_RPC__MAX_MESSAGE_BYTES", "1"),
        ("WEIR_RPC__SERVER__MAX_IN_FLIGHT", "0"),
        ("WEIR_RPC__CLIENT__DEADLINE", "soon"),
    ])
    .unwrap_err();
    let mut paths: Vec<_> = errors.0.iter().map(|problem| problem.path.as_str()).collect();
    paths.sort_unstable();
    // What is unknown or of the wrong type hides what would be checked after: both kinds are errors all the same.
    assert!(paths.contains(&"host.listen.coffee") && paths.contains(&"rpc.client.deadline"), "{paths:?}");

    let errors = load(&[
        ("WEIR_HOST__ADMIN_LISTEN", "9100"),
        ("WEIR_HOST__LISTEN__QUOTA", "localhost"),
        ("WEIR_HOST__ADVERTISE", "http://me"),
        ("WEIR_HOST__DRAIN", "0s"),
        ("WEIR_HOST__PROBE_MISSES", "0"),
        ("WEIR_HOST__HTTP__MAX_HEADER_BYTES", "1"),
        ("WEIR_RPC__MAX_MESSAGE_BYTES", "1"),
        ("WEIR_RPC__SERVER__MAX_IN_FLIGHT", "0"),
    ])
    .unwrap_err();
    let mut paths: Vec<_> = errors.0.iter().map(|problem| problem.path.as_str()).collect();
    paths.sort_unstable();
    assert_eq!(
        paths,
        [
            "host.admin_listen",
            "host.advertise",
            "host.drain",
            "host.http.max_header_bytes",
            "host.listen.quota",
            "host.probe_misses",
            "host.shutdown_delay",
            "rpc.max_message_bytes",
            "rpc.server.max_in_flight",
        ]
    );
}
