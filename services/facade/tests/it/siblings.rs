//! The services behind the facade: each method does what a test says, and what was asked of it is kept.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use parking_lot::Mutex;
use prost::Message;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Request, Status};
use weir_proto::common::v1::ErrorReason;
use weir_rpc::{Caller, Error, Routes, shared_caller};

type Answer = Result<BoxStream<'static, Result<Bytes, Status>>, Error>;
type Handler = Arc<dyn Fn(Arc<Caller>, Bytes) -> BoxFuture<'static, Answer> + Send + Sync>;

/// One call that a service got.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) caller: Arc<Caller>,
    /// `weir-priority` of its metadata.
    pub(crate) priority: Option<String>,
    message: Bytes,
}

/// All services.
#[derive(Default)]
pub(crate) struct Siblings {
    handlers: Mutex<HashMap<String, Handler>>,
    asked: Mutex<Vec<Asked>>,
}

impl Siblings {
    /// The method answers with what `handler` makes of a request.
    pub(crate) fn on<Q, R, F>(&self, path: &str, handler: impl Fn(Q) -> F + Send + Sync + 'static)
    where
        Q: Message + Default,
        R: Message,
        F: Future<Output = Result<R, Error>> + Send + 'static,
    {
        self.register(path, move |message| {
            let answer = handler(Q::decode(message).unwrap());
            async move {
                let answer = Bytes::from(answer.await?.encode_to_vec());
                Ok(futures::stream::iter([Ok(answer)]).boxed())
            }
            .boxed()
        });
    }

    /// The method answers so.
    pub(crate) fn answer<R: Message + Clone + 'static>(&self, path: &str, answer: R) {
        self.on(path, move |(): ()| std::future::ready(Ok(answer.clone())));
    }

    /// The method refuses.
    pub(crate) fn refuse(&self, path: &str, error: Error) {
        self.on(path, move |(): ()| std::future::ready(Err::<(), _>(error.clone())));
    }

    /// The method answers with a stream.
    pub(crate) fn stream<R: Message + 'static>(
        &self,
        path: &str,
        handler: impl Fn() -> BoxStream<'static, Result<R, Error>> + Send + Sync + 'static,
    ) {
        self.register(path, move |_| {
            let answer = handler().map(|part| Ok(Bytes::from(part.map_err(Status::from)?.encode_to_vec())));
            std::future::ready(Ok(answer.boxed())).boxed()
        });
    }

    fn register(&self, path: &str, handler: impl Fn(Bytes) -> BoxFuture<'static, Answer> + Send + Sync + 'static) {
        self.handlers.lock().insert(path.to_owned(), Arc::new(move |_, message| handler(message)));
    }

    /// How often a method was called.
    pub(crate) fn count(&self, path: &str) -> usize {
        self.asked.lock().iter().filter(|asked| asked.path == path).count()
    }

    /// The last call of a method.
    pub(crate) fn last<Q: Message + Default>(&self, path: &str) -> (Q, Arc<Caller>) {
        let asked = self.asked.lock().iter().rfind(|asked| asked.path == path).cloned();
        let asked = asked.unwrap_or_else(|| panic!("{path} was never called"));
        (Q::decode(asked.message).unwrap(), asked.caller)
    }

    /// What the last call of a method said of its priority.
    pub(crate) fn last_priority(&self, path: &str) -> Option<String> {
        self.asked.lock().iter().rfind(|asked| asked.path == path).and_then(|asked| asked.priority.clone())
    }

    async fn serve(&self, request: http::Request<Body>) -> http::Response<Body> {
        let path = request.uri().path().to_owned();
        let request = Request::from_http(request);
        let caller = shared_caller(&request);
        let priority = request.metadata().get("weir-priority").map(|value| value.to_str().unwrap().to_owned());
        let mut body = request.into_inner().collect().await.unwrap().to_bytes();
        // One byte of compression, four of length.
        body.advance(5);
        self.asked.lock().push(Asked {
            path: path.clone(),
            caller: Arc::clone(&caller),
            priority,
            message: body.clone(),
        });
        let handler = self.handlers.lock().get(&path).cloned();
        let answer = match handler {
            Some(handler) => handler(caller, body).await,
            None => Err(Error::new(ErrorReason::Unimplemented, "no test says what this does")),
        };
        match answer {
            Ok(messages) => streamed(messages),
            Err(error) => Status::from(error).into_http(),
        }
    }
}

/// Messages, then the status in the trailers.
fn streamed(messages: BoxStream<'static, Result<Bytes, Status>>) -> http::Response<Body> {
    let frames = futures::stream::unfold(Some(messages), async |messages| {
        let mut messages = messages?;
        let (frame, rest) = match messages.next().await {
            Some(Ok(message)) => {
                let mut framed = BytesMut::with_capacity(message.len() + 5);
                framed.put_u8(0);
                framed.put_u32(u32::try_from(message.len()).unwrap());
                framed.put(message);
                (Frame::data(framed.freeze()), Some(messages))
            }
            Some(Err(status)) => (trailers(&status), None),
            None => (trailers(&Status::ok("")), None),
        };
        Some((Ok::<_, Infallible>(frame), rest))
    });
    let mut response = http::Response::new(Body::new(StreamBody::new(frames)));
    response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    response
}

fn trailers(status: &Status) -> Frame<Bytes> {
    let mut headers = http::HeaderMap::new();
    status.add_header(&mut headers).unwrap();
    Frame::trailers(headers)
}

macro_rules! service {
    ($name:ident, $grpc:literal) => {
        #[derive(Clone)]
        struct $name(Arc<Siblings>);

        impl NamedService for $name {
            const NAME: &'static str = $grpc;
        }

        impl tower::Service<http::Request<Body>> for $name {
            type Response = http::Response<Body>;
            type Error = Infallible;
            type Future = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: http::Request<Body>) -> Self::Future {
                let siblings = Arc::clone(&self.0);
                Box::pin(async move { Ok(siblings.serve(request).await) })
            }
        }
    };
}

service!(Auth, "weir.auth.v1.AuthService");
service!(Broker, "weir.broker.v1.BrokerService");
service!(Jobs, "weir.broker.v1.JobService");
service!(Results, "weir.broker.v1.ResultService");
service!(Cache, "weir.broker.v1.CacheService");
service!(Keys, "weir.broker.v1.ProviderKeyService");
service!(Quota, "weir.quota.v1.QuotaService");
service!(Usage, "weir.usage.v1.UsageService");
service!(Billing, "weir.billing.v1.BillingService");

/// The routes of each service.
pub(crate) fn routes(siblings: &Arc<Siblings>) -> [(&'static str, Routes); 5] {
    [
        ("auth", Routes::new(Auth(Arc::clone(siblings)))),
        (
            "ai-broker",
            Routes::new(Broker(Arc::clone(siblings)))
                .add_service(Jobs(Arc::clone(siblings)))
                .add_service(Results(Arc::clone(siblings)))
                .add_service(Cache(Arc::clone(siblings)))
                .add_service(Keys(Arc::clone(siblings))),
        ),
        ("quota", Routes::new(Quota(Arc::clone(siblings)))),
        ("usage", Routes::new(Usage(Arc::clone(siblings)))),
        ("billing", Routes::new(Billing(Arc::clone(siblings)))),
    ]
}
