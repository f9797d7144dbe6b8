//! TLS: the server's certificate, the authorities that client certificates come from, and the name in one.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio_util::sync::CancellationToken;

use crate::domain::permissions::check_name;
use crate::reload::{self, Reloaded};

/// gRPC is HTTP/2 alone.
const PROTOCOL: &[u8] = b"h2";
const SPIFFE: &str = "spiffe://";

/// The files of TLS, all PEM.
#[derive(Debug, Clone)]
pub struct TransportSettings {
    /// The server's certificate, followed by those between it and its authority.
    pub certificate_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
    /// The authorities of client certificates. With them a connection without a certificate of theirs is refused.
    pub client_authorities_file: Option<PathBuf>,
}

/// The configuration of TLS as it is now. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Transport {
    config: Arc<Reloaded<Arc<ServerConfig>>>,
}

impl Transport {
    /// Reads the files.
    pub fn open(settings: &TransportSettings) -> Result<Self, String> {
        let mut paths = vec![settings.certificate_file.clone(), settings.key_file.clone()];
        paths.extend(settings.client_authorities_file.clone());
        // All in one: a certificate and its key change one after the other, and do not fit between.
        let config = Reloaded::open("TLS", paths, |contents| server_config(contents).map(Arc::new))?;
        Ok(Self {
            config: Arc::new(config),
        })
    }

    /// What new connections are served with.
    #[must_use]
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config.current())
    }

    /// Reads the files again as they change, until `shutdown`.
    pub async fn watch(self, shutdown: CancellationToken) {
        reload::watch(Some(&self.config), &shutdown).await;
    }
}

fn server_config(contents: &[Vec<u8>]) -> Result<ServerConfig, String> {
    let (Some(certificates), Some(key)) = (contents.first(), contents.get(1)) else {
        return Err("there must be a certificate and a key".to_owned());
    };
    let certificates = read_certificates(certificates).map_err(|problem| format!("the certificate file {problem}"))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| "the key file has no private key in PEM".to_owned())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS can't be set up: {error}"))?;
    let builder = match contents.get(2) {
        None => builder.with_no_client_auth(),
        Some(authorities) => {
            let authorities =
                read_authorities(authorities).map_err(|problem| format!("the client authorities file {problem}"))?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider)
                .build()
                .map_err(|error| format!("client certificates can't be checked: {error}"))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(certificates, key)
        .map_err(|_| "the key is not that of the certificate, or one of them can't be used".to_owned())?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    // A resumed connection would not show its certificate again: one that has expired since would still be taken.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn read_certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) | Err(_) => Err("has no certificates in PEM".to_owned()),
    }
}

fn read_authorities(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut authorities = RootCertStore::empty();
    for certificate in read_certificates(pem)? {
        authorities
            .add(certificate)
            .map_err(|_| "has a certificate that can't be used".to_owned())?;
    }
    Ok(authorities)
}

/// The name in a client certificate that was checked: its SPIFFE id, or else its first DNS name in lower case. None where it has
/// neither, or several SPIFFE ids, which their specification forbids.
#[must_use]
pub fn certificate_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let spiffe_ids: Vec<&str> = certificate
        .valid_uri_names()
        .filter(|uri| {
            uri.get(..SPIFFE.len())
                .is_some_and(|scheme| scheme.eq_ignore_ascii_case(SPIFFE))
        })
        .collect();
    let name = match spiffe_ids.as_slice() {
        [only] => (*only).to_owned(),
        [] => certificate.valid_dns_names().next()?.to_ascii_lowercase(),
        [_, _, ..] => return None,
    };
    check_name(&name).is_ok().then_some(name)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn name_of(names: Vec<SanType>) -> Option<String> {
        let mut parameters = CertificateParams::default();
        parameters.subject_alt_names = names;
        let certificate = parameters.self_signed(&KeyPair::generate().unwrap()).unwrap();
        certificate_name(certificate.der())
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    fn dns(text: &str) -> SanType {
        SanType::DnsName(text.try_into().unwrap())
    }

    #[test]
    fn the_name_of_a_certificate_is_its_spiffe_id_or_its_first_dns_name() {
        let id = "spiffe://example.org/shop";
        assert_eq!(name_of(vec![dns("b.example"), uri(id)]).as_deref(), Some(id));
        assert_eq!(
            name_of(vec![uri("https://x.example"), dns("B.example"), dns("a.example")]).as_deref(),
            Some("b.example")
        );
        assert_eq!(name_of(vec![uri(id), uri("SPIFFE://example.org/payer")]), None);
        assert_eq!(name_of(vec![uri("https://x.example")]), None);
        assert_eq!(name_of(vec![dns("tipalti")]), None, "a name of the service's own");
        assert_eq!(name_of(Vec::new()), None);
    }

    #[test]
    fn files_that_do_not_fit_are_refused_without_what_they_hold() {
        let make = || {
            let key = KeyPair::generate().unwrap();
            let certificate = CertificateParams::default().self_signed(&key).unwrap();
            (certificate.pem().into_bytes(), key.serialize_pem().into_bytes())
        };
        let ((certificate, key), (_, other_key)) = (make(), make());
        assert!(server_config(&[certificate.clone(), key.clone()]).is_ok());
        assert!(server_config(&[certificate.clone(), key.clone(), certificate.clone()]).is_ok());
        for wrong in [
            vec![certificate.clone(), other_key],
            vec![key.clone(), key.clone()],
            vec![certificate.clone(), certificate.clone()],
            vec![certificate.clone(), b"zqsecret".to_vec()],
            vec![certificate.clone(), key.clone(), b"zqsecret".to_vec()],
            vec![Vec::new(), key],
        ] {
            let problem = server_config(&wrong).unwrap_err();
            assert!(!problem.contains("zqsecret"), "{problem}");
        }
    }
}
