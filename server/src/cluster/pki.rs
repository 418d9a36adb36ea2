//! The cluster's certificate authority: made on first use, one certificate for the master, one for each member.
//!
//! Members pin the authority by the digest in their token. The same certificates open OVN's southbound database, where
//! the common name is the chassis (ovn-sb(5), role-based access control). Must not know sockets or members.

use std::path::PathBuf;

use kvm_compose::{
    backend::files::sums::hexadecimal,
    error::{Code, Problem},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use sha2::{Digest as _, Sha256};

use crate::{
    data::{DataDir, read_if_there},
    store::atomic,
};

/// The name that the master's certificate is for. Members connect to an address but expect this name.
pub const MASTER_NAME: &str = "testbedos-master";

/// The authority and the master's own certificate.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// The authority's certificate, PEM.
    pub certificate: String,
    /// SHA-256 of the authority's certificate (DER), in hexadecimal.
    pub digest: String,
    /// Files that hold the master's key, its certificate and the authority's certificate, for OVN.
    pub files: KeyFiles,
}

/// Files in `keys/` that TLS is set up with.
#[derive(Debug, Clone)]
pub struct KeyFiles {
    /// The private key, PEM.
    pub key: PathBuf,
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// The authority's certificate, PEM.
    pub authority: PathBuf,
}

impl KeyFiles {
    /// Where one side keeps its own: `cluster-<whose>-key.pem` and so on.
    pub fn of(data: &DataDir, whose: &str) -> Self {
        let keys = data.keys();
        KeyFiles {
            key: keys.join(format!("cluster-{whose}-key.pem")),
            certificate: keys.join(format!("cluster-{whose}.pem")),
            authority: keys.join("cluster-authority.pem"),
        }
    }
}

fn failed(error: impl std::fmt::Display) -> Problem {
    Problem::new(Code::Internal, "the cluster's certificates cannot be made").cause(error)
}

impl Authority {
    /// Reads the authority and the master's certificate, or makes them.
    pub fn open(data: &DataDir) -> Result<Authority, Problem> {
        let files = KeyFiles::of(data, "master");
        let key_file = data.keys().join("cluster-authority-key.pem");
        let key = match read_if_there(&key_file)? {
            Some(pem) => KeyPair::from_pem(&String::from_utf8_lossy(&pem)).map_err(|error| unusable(&key_file, error))?,
            None => {
                let key = KeyPair::generate().map_err(failed)?;
                atomic::write(&key_file, key.serialize_pem().as_bytes())?;
                key
            }
        };
        let params = authority_params();
        let certificate = match read_if_there(&files.authority)? {
            Some(pem) => String::from_utf8_lossy(&pem).into_owned(),
            None => {
                let pem = params.self_signed(&key).map_err(failed)?.pem();
                atomic::write(&files.authority, pem.as_bytes())?;
                pem
            }
        };
        let digest = digest_of(&der(&certificate)?);
        let authority = Authority { issuer: Issuer::new(params, key), certificate, digest, files };
        authority.open_master()?;
        Ok(authority)
    }

    fn open_master(&self) -> Result<(), Problem> {
        if read_if_there(&self.files.certificate)?.is_some() && read_if_there(&self.files.key)?.is_some() {
            return Ok(());
        }
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params_for(MASTER_NAME)?.signed_by(&key, &self.issuer).map_err(failed)?;
        atomic::write(&self.files.key, key.serialize_pem().as_bytes())?;
        atomic::write(&self.files.certificate, certificate.pem().as_bytes())
    }

    /// A certificate for the key of a request, for this chassis. Nothing else of the request is believed.
    /// Returns the certificate as PEM, and its digest.
    pub fn sign(&self, request: &str, chassis: &str) -> Result<(String, String), Problem> {
        let request = CertificateSigningRequestParams::from_pem(request)
            .map_err(|error| Problem::new(Code::BadRequest, "the certificate signing request cannot be read").cause(error))?;
        let certificate = params_for(chassis)?.signed_by(&request.public_key, &self.issuer).map_err(failed)?;
        Ok((certificate.pem(), digest_of(certificate.der())))
    }
}

fn unusable(file: &std::path::Path, error: impl std::fmt::Display) -> Problem {
    Problem::new(Code::Storage, format!("{} is not a private key", file.display()))
        .cause(error)
        .hint("restore it from a copy; with another authority every member must join anew")
}

/// The authority's parameters, the same at every start: the issuer's name is what certificates refer to.
fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "TestbedOS cluster authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn params_for(name: &str) -> Result<CertificateParams, Problem> {
    // A chassis' name need not be a DNS name, so only the master has a subject alternative name.
    let names = if name == MASTER_NAME { vec![name.to_string()] } else { Vec::new() };
    let mut params = CertificateParams::new(names).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// A key and a request for it, both PEM: what a client makes before it joins.
pub fn request() -> Result<(String, String), Problem> {
    let key = KeyPair::generate().map_err(failed)?;
    let request = CertificateParams::default().serialize_request(&key).map_err(failed)?;
    Ok((key.serialize_pem(), request.pem().map_err(failed)?))
}

/// The first certificate of a PEM text.
pub fn der(pem: &str) -> Result<CertificateDer<'static>, Problem> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| Problem::new(Code::Storage, "a certificate of the cluster cannot be read").cause(error))
}

/// By what a certificate is known: SHA-256 of its DER form, in hexadecimal.
pub fn digest_of(certificate: &CertificateDer<'_>) -> String {
    hexadecimal(&Sha256::digest(certificate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_made_once_and_signs_for_a_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = DataDir::new(folder.path());
        let _lock = data.open().expect("opened");
        let first = Authority::open(&data).expect("made");
        let again = Authority::open(&data).expect("read");
        assert_eq!((&first.digest, &first.certificate), (&again.digest, &again.certificate));
        let (_, request) = request().expect("a request");
        let (certificate, digest) = again.sign(&request, "h1").expect("signed");
        assert_eq!(digest, digest_of(&der(&certificate).expect("a certificate")));
        assert_eq!(again.sign("nonsense", "h1").expect_err("no request").code, Code::BadRequest);
    }
}
