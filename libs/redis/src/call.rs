//! What a call sends, and how: the same on one connection and on a cluster.

use redis::{
    Cmd, ErrorKind, Pipeline, RedisError, RedisResult, Script, ServerErrorKind, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster_async::ClusterConnection,
    cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo},
};

#[derive(Clone, Copy)]
pub(crate) enum Call<'a> {
    Command(&'a Cmd),
    /// The script and its `EVALSHA`.
    Script(&'a Script, &'a Cmd),
    Load(&'a Script),
    EveryMaster(&'a Cmd),
    Pipeline(&'a Pipeline),
}

impl Call<'_> {
    /// Apart from [`Self::on_cluster`] because this path needs no boxed future.
    pub(crate) async fn on_connection(self, connection: &mut MultiplexedConnection) -> RedisResult<Value> {
        match self {
            Self::Command(command) => connection.send_packed_command(command).await?.extract_error(),
            Self::Script(script, command) => {
                match connection.send_packed_command(command).await.and_then(Value::extract_error) {
                    Err(error) if is_unknown_script(&error) => {
                        script.load_async(connection).await?;
                        connection.send_packed_command(command).await?.extract_error()
                    }
                    answer => answer,
                }
            }
            Self::Load(script) => script.load_async(connection).await.map(|_| Value::Okay),
            Self::EveryMaster(command) => {
                let answer = connection.send_packed_command(command).await?.extract_error()?;
                Ok(Value::Array(vec![answer]))
            }
            Self::Pipeline(pipeline) => pipeline.query_async(connection).await,
        }
    }

    pub(crate) async fn on_cluster(self, connection: &mut ClusterConnection) -> RedisResult<Value> {
        match self {
            Self::Command(command) => connection.req_packed_command(command).await?.extract_error(),
            Self::Script(script, command) => {
                match connection.req_packed_command(command).await.and_then(Value::extract_error) {
                    Err(error) if is_unknown_script(&error) => {
                        script.load_async(connection).await?;
                        connection.req_packed_command(command).await?.extract_error()
                    }
                    answer => answer,
                }
            }
            Self::Load(script) => script.load_async(connection).await.map(|_| Value::Okay),
            Self::EveryMaster(command) => {
                let masters = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                match connection.route_command(command.clone(), masters).await?.extract_error()? {
                    Value::Map(answers) => Ok(Value::Array(answers.into_iter().map(|(_, answer)| answer).collect())),
                    answer => Ok(Value::Array(vec![answer])),
                }
            }
            Self::Pipeline(pipeline) => pipeline.query_async(connection).await,
        }
    }
}

fn is_unknown_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}
