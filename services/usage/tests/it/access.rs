use weir_rpc::{Access, uncovered};
use weir_usage::ACCESS;

#[test]
fn every_rpc_has_one_row_that_says_who_may_call_it() {
    assert_eq!(uncovered("weir.usage.v1.UsageService", ACCESS), Vec::<String>::new());
}

#[test]
fn principals_reach_only_what_is_bound_to_their_organisation() {
    let reachable: Vec<&str> = ACCESS
        .iter()
        .filter(|(_, access)| !matches!(access, Access::Services(_)))
        .map(|(path, _)| path.rsplit('/').next().unwrap())
        .collect();
    assert_eq!(reachable, ["QueryUsage", "ListEvents"]);
}
