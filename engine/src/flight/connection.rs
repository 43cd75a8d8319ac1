//! Accepted sockets: each has a number, and says when it is closed.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tonic::transport::server::Connected;

/// What a request knows of the socket it came on.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Counted from 1 since the server started.
    pub number: u64,
    /// Where it comes from.
    pub address: Option<SocketAddr>,
}

/// An accepted socket.
pub struct Connection {
    socket: TcpStream,
    peer: Peer,
    closed: Arc<dyn Fn(Peer) + Send + Sync>,
}

impl Connection {
    /// `closed` is called when the socket is.
    pub fn new(socket: TcpStream, number: u64, closed: Arc<dyn Fn(Peer) + Send + Sync>) -> Self {
        let peer = Peer { number, address: socket.peer_addr().ok() };
        Self { socket, peer, closed }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        (self.closed)(self.peer);
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}
