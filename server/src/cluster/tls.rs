//! TLS at the members' door: the master's certificate, and members' certificates from the same authority.
//!
//! Must not know who a certificate belongs to.

use std::{path::Path, sync::Arc};

use kvm_compose::error::{Code, Problem};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
    version::TLS13,
};

use super::pki::KeyFiles;

/// What the door is set up with. A client may come without a certificate, to join; one that it shows must be from the
/// authority.
pub fn server_config(files: &KeyFiles) -> Result<Arc<ServerConfig>, Problem> {
    let authority = certificate(&files.authority)?;
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(&authority)?), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| failed(&files.authority, error))?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| failed(&files.certificate, error))?
        .with_client_cert_verifier(verifier)
        // The authority goes along: who joins knows it by its digest only.
        .with_single_cert(vec![certificate(&files.certificate)?, authority], key(&files.key)?)
        .map_err(|error| failed(&files.certificate, error))?;
    Ok(Arc::new(config))
}

/// The authority as the only one that is believed.
pub fn roots(authority: &CertificateDer<'static>) -> Result<RootCertStore, Problem> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).map_err(|error| Problem::new(Code::Storage, "the cluster's authority cannot be used").cause(error))?;
    Ok(roots)
}

/// The first certificate of a file.
pub fn certificate(file: &Path) -> Result<CertificateDer<'static>, Problem> {
    CertificateDer::from_pem_file(file).map_err(|error| failed(file, error))
}

/// The private key of a file.
pub fn key(file: &Path) -> Result<PrivateKeyDer<'static>, Problem> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| failed(file, error))
}

fn failed(file: &Path, error: impl std::fmt::Display) -> Problem {
    Problem::new(Code::Storage, format!("{} cannot be used for TLS", file.display())).cause(error)
}
