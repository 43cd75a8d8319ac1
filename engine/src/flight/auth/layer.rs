//! Stands before a service: only calls whose maker is known reach it.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use tonic::transport::server::TlsConnectInfo;

use super::guard::{Claim, Guard};
use crate::flight::connection::Peer;
use crate::flight::status::to_status;

/// A service behind a [`Guard`].
#[derive(Clone, Debug)]
pub struct Guarded<S> {
    inner: S,
    guard: Arc<Guard>,
}

impl<S> Guarded<S> {
    /// Puts a guard before a service.
    pub fn new(inner: S, guard: Arc<Guard>) -> Self {
        Self { inner, guard }
    }
}

impl<S: NamedService> NamedService for Guarded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Guarded<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let guard = Arc::clone(&self.guard);
        // The one that is ready takes the call; its copy is asked for the next.
        let copy = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, copy);
        async move {
            let certificates = request.extensions().get::<TlsConnectInfo<Peer>>().and_then(TlsConnectInfo::peer_certs);
            let claim = Claim {
                header: request.headers().get(http::header::AUTHORIZATION).map(|header| header.as_bytes()),
                peer: request.extensions().get::<Peer>().and_then(|peer| peer.address),
                certificate: certificates.as_ref().and_then(|all| all.first()).map(|first| first.as_ref()),
            };
            let (identity, token) = match guard.identify(claim).await {
                Ok(known) => known,
                Err(error) => return Ok(to_status(&error).into_http()),
            };
            request.extensions_mut().insert(Arc::new(identity));
            let mut response = inner.call(request).await?;
            let answer = token.and_then(|token| http::HeaderValue::from_str(&format!("Bearer {token}")).ok());
            if let Some(answer) = answer {
                response.headers_mut().insert(http::header::AUTHORIZATION, answer);
            }
            Ok(response)
        }
        .boxed()
    }
}
