//! TLS towards the master: its authority is pinned by digest when this host joins, and by certificate from then on.
//!
//! Must not know what is said.

use std::sync::Arc;

use kvm_compose::error::{Code, Problem};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
    version::TLS13,
};

use crate::cluster::{
    pki::{KeyFiles, digest_of},
    tls::{certificate, key, roots},
};

/// What is said of a server whose authority is not the token's.
pub const ANOTHER_AUTHORITY: &str = "not the master that made the token";

fn failed(error: impl std::fmt::Display) -> Problem {
    Problem::new(Code::Storage, "TLS towards the master cannot be set up").cause(error)
}

/// For a host that has a token and no certificate yet: whoever shows the authority of the token is the master.
pub fn stranger(authority: &str) -> Result<Arc<ClientConfig>, Problem> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(Pinned { authority: authority.to_string(), provider: provider.clone() });
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(failed)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// For a member: both sides show certificates of the one authority.
pub fn member(files: &KeyFiles) -> Result<Arc<ClientConfig>, Problem> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(failed)?
        .with_root_certificates(roots(&certificate(&files.authority)?)?)
        .with_client_auth_cert(vec![certificate(&files.certificate)?], key(&files.key)?)
        .map_err(failed)?;
    Ok(Arc::new(config))
}

/// Believes a chain that ends in the authority with this digest, and checks it as usual from there.
#[derive(Debug)]
struct Pinned {
    authority: String,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pinned = intermediates.iter().find(|shown| digest_of(shown) == self.authority);
        let Some(authority) = pinned else {
            return Err(Error::General(ANOTHER_AUTHORITY.to_string()));
        };
        let roots = roots(&authority.clone().into_owned()).map_err(|problem| Error::General(problem.to_string()))?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is spoken".to_string()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
