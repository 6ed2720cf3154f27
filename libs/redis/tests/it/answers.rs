use futures::future::try_join_all;
use weir_redis::{Error, Script, Value};

use crate::{connect, get};

#[tokio::test]
async fn a_script_is_loaded_when_the_server_does_not_know_it() -> anyhow::Result<()> {
    let server = weir_testing::private_redis().await?;
    let redis = connect(server.url()).await?;
    let script = Script::new("return {KEYS[1], ARGV[1], tonumber(ARGV[2]) + 1}");
    for _ in 0..2 {
        let (key, text, number): (String, String, i64) = redis.run(&script, &["key"], &["text", "41"]).await?;
        assert_eq!((key.as_str(), text.as_str(), number), ("key", "text", 42));
        redis.command::<()>(redis::cmd("SCRIPT").arg("FLUSH")).await?;
    }
    Ok(())
}

#[tokio::test]
async fn integers_go_to_a_script_and_back_unchanged() -> anyhow::Result<()> {
    let server = weir_testing::private_redis().await?;
    let redis = connect(server.url()).await?;
    let script = Script::new("redis.call('SET', KEYS[1], ARGV[1]); return redis.call('INCRBY', KEYS[1], ARGV[2])");
    let largest = 9_007_199_254_740_991_i64;
    let sum: i64 = redis.run(&script, &["key"], &[largest - 1, 1]).await?;
    assert_eq!(sum, largest);
    Ok(())
}

#[tokio::test]
async fn what_a_script_raises_and_what_it_returns_as_an_error_are_errors() -> anyhow::Result<()> {
    let server = weir_testing::private_redis().await?;
    let redis = connect(server.url()).await?;
    let none: [&str; 0] = [];
    for code in
        ["error('on purpose')", "return redis.error_reply('ERR on purpose')", "return {{err = 'ERR on purpose'}}"]
    {
        let answer: Result<Value, _> = redis.run(&Script::new(code), &none, &none).await;
        assert!(matches!(&answer, Err(Error::Script(text)) if text.contains("on purpose")), "{code}: {answer:?}");
    }
    let answer: Result<i64, _> = redis.run(&Script::new("return 'text'"), &none, &none).await;
    assert!(matches!(answer, Err(Error::Internal(_))), "{answer:?}");
    redis.ping().await?;
    Ok(())
}

#[tokio::test]
async fn a_full_server_counts_as_unavailable() -> anyhow::Result<()> {
    let server = weir_testing::private_redis().await?;
    let redis = connect(server.url()).await?;
    redis.command::<()>(redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("1")).await?;
    let mut set = redis::cmd("SET");
    set.arg("key").arg("value");
    assert_eq!(redis.command::<()>(&set).await, Err(Error::Unavailable));
    let script = Script::new("return redis.call('SET', KEYS[1], 'value')");
    let none: [&str; 0] = [];
    let answer: Result<(), _> = redis.run(&script, &["key"], &none).await;
    assert_eq!(answer, Err(Error::Unavailable));
    let mut pipeline = redis::pipe();
    pipeline.get("key").set("key", "value");
    assert_eq!(redis.pipeline(&pipeline).await, Err(Error::Unavailable));
    assert_eq!(redis.pipeline(pipeline.atomic()).await, Err(Error::Unavailable));
    Ok(())
}

#[tokio::test]
async fn a_pipeline_answers_in_order() -> anyhow::Result<()> {
    let server = weir_testing::private_redis().await?;
    let redis = connect(server.url()).await?;
    let mut pipeline = redis::pipe();
    pipeline.set("key", 5).ignore().incr("key", 2).get("other");
    assert_eq!(redis.pipeline(&pipeline).await?, [Value::Int(7), Value::Nil]);

    let script = Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])");
    redis.load(&script).await?;
    let mut pipeline = redis::pipe();
    pipeline.atomic();
    for amount in 1..=3 {
        pipeline.cmd("EVALSHA").arg(script.get_hash()).arg(1).arg("key").arg(amount);
    }
    assert_eq!(redis.pipeline(&pipeline).await?, [Value::Int(8), Value::Int(10), Value::Int(13)]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_calls_each_get_their_own_answer() -> anyhow::Result<()> {
    let server = weir_testing::private_redis().await?;
    let mut config = crate::config(server.url());
    // Thousands at once on a busy machine: this is about answers, not about time.
    config.deadline = std::time::Duration::from_secs(5);
    let redis = weir_redis::Redis::connect(&config).await?;
    let script = Script::new("return ARGV[1]");
    let calls = (0..2_000_i64).map(async |number| {
        let none: [&str; 0] = [];
        let answer: i64 = redis.run(&script, &none, &[number]).await?;
        assert_eq!(answer, number);
        Ok::<_, Error>(())
    });
    try_join_all(calls).await?;
    assert_eq!(redis.command::<Option<String>>(&get("nothing")).await?, None);
    Ok(())
}
