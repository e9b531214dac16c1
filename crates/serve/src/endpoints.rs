//! Addresses that a program answers, beside those of files.

use std::{
    future::Future,
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use hyper::{
    Request, Response,
    body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint},
};

use super::{body::Body, report::Pending};

/// Answers the requests for some addresses, for [`Server::endpoints`](crate::Server::endpoints).
pub trait Endpoints: Send + Sync + 'static {
    /// Returns whether requests for this path are answered here rather than with a file.
    fn has(&self, path: &str) -> bool;

    /// Answers a request. The future is dropped where the client leaves before there is an answer,
    /// the body where it leaves later.
    fn answer(self: Arc<Self>, request: Request<Incoming>) -> EndpointFuture;
}

/// Who a request comes from: an extension of each that [`Endpoints::answer`] is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer(pub IpAddr);

/// The answer of [`Endpoints::answer`].
pub type EndpointFuture = Pin<Box<dyn Future<Output = Response<EndpointBody>> + Send>>;

/// The body of such an answer.
pub type EndpointBody = Pin<Box<dyn HttpBody<Data = Bytes, Error = io::Error> + Send>>;

/// The body of any answer.
pub(crate) enum ServedBody {
    File(Body),
    Endpoint(EndpointBody, Pending),
}

impl HttpBody for ServedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            ServedBody::File(body) => Pin::new(body).poll_frame(context),
            ServedBody::Endpoint(body, record) => {
                let frame = ready!(body.as_mut().poll_frame(context));
                if let Some(Ok(frame)) = &frame {
                    let bytes = frame.data_ref().map_or(0, Bytes::len);
                    record.add_bytes(bytes as u64);
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ServedBody::File(body) => body.is_end_stream(),
            ServedBody::Endpoint(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ServedBody::File(body) => body.size_hint(),
            ServedBody::Endpoint(body, _) => body.size_hint(),
        }
    }
}
