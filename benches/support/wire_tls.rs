//! What the transport is compared with: TCP and rustls with the same cipher, a thread for each side, blocking.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use mobula_actors::operator::BoxError;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned, version::TLS13,
};

/// Bytes that rustls may hold encrypted and unsent: more than its 64 KiB, so that it is not held back by calls.
const UNSENT_BYTES: usize = 1 << 20;

/// A connection to the other side.
pub(crate) type Pipe = StreamOwned<ClientConnection, TcpStream>;

fn provider() -> Arc<CryptoProvider> {
    let cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    Arc::new(CryptoProvider { cipher_suites, ..aws_lc_rs::default_provider() })
}

/// Listens with the identity of a folder and sends as many blocks as it is asked for.
pub(crate) fn listen(folder: &Path, blocks: Vec<Bytes>) -> Result<SocketAddr, BoxError> {
    let certificate = CertificateDer::from_pem_file(folder.join("node.pem"))?;
    let key = PrivateKeyDer::from_pem_file(folder.join("node.key"))?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0")?);
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // Who connected sees that it ended.
            let _ = stream.map_err(BoxError::from).and_then(|stream| send(&config, stream, &blocks));
        }
    });
    Ok(address)
}

fn send(config: &Arc<ServerConfig>, stream: TcpStream, blocks: &[Bytes]) -> Result<(), BoxError> {
    stream.set_nodelay(true)?;
    let mut pipe = StreamOwned::new(ServerConnection::new(config.clone())?, stream);
    pipe.conn.set_buffer_limit(Some(UNSENT_BYTES));
    loop {
        let mut count = [0; 4];
        pipe.read_exact(&mut count)?;
        for block in blocks.iter().cycle().take(u32::from_le_bytes(count) as usize) {
            pipe.write_all(block)?;
        }
        pipe.flush()?;
    }
}

/// Connects with what the folder says of the cluster.
pub(crate) fn connect(folder: &Path, to: SocketAddr, name: String) -> Result<Pipe, BoxError> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("ca.pem"))?)?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    Ok(StreamOwned::new(ClientConnection::new(Arc::new(config), name.try_into()?)?, stream))
}

/// Asks for blocks and reads them into the buffers in turn.
pub(crate) fn pull(pipe: &mut Pipe, blocks: usize, buffers: &mut [Vec<u8>]) -> Result<(), BoxError> {
    pipe.write_all(&(blocks as u32).to_le_bytes())?;
    pipe.flush()?;
    let places = buffers.len();
    for number in 0..blocks {
        let buffer = buffers.get_mut(number % places).ok_or("there are buffers")?;
        pipe.read_exact(buffer)?;
    }
    Ok(())
}
