//! Binding a listener's socket.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use tokio::net::TcpSocket;

use super::ServerError;

/// How many connections the system queues for each listener until they are accepted.
const BACKLOG: u32 = 2048;

/// A listening socket and the address it is bound to.
#[derive(Debug)]
pub(super) struct BoundListener {
    pub(super) socket: TcpListener,
    /// Has the actual port where the setting asked for port 0.
    pub(super) address: SocketAddr,
}

impl BoundListener {
    /// Binds and listens. Both listeners are bound before anything else starts, which Actix would not do.
    pub(super) fn bind(address: SocketAddr) -> Result<Self, ServerError> {
        listen(address).map_err(|cause| ServerError::Listen { address, cause })
    }
}

fn listen(address: SocketAddr) -> io::Result<BoundListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // Otherwise a restart has to wait until connections of the previous process leave TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let socket = socket.listen(BACKLOG)?.into_std()?;
    Ok(BoundListener {
        address: socket.local_addr()?,
        socket,
    })
}
