//! What lets callers in, and how they come: files of identities and keys, certificates, and channels with them.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use affiliate_billing::authentication::transport::{Transport, TransportSettings};
use affiliate_billing::authentication::{Access, Authentication, AuthenticationSettings, NewToken};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::codegen::http::Uri;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Far more than a reload takes: so that one that never comes fails.
pub(crate) const RELOAD_LIMIT: Duration = Duration::from_secs(60);

/// A folder of the files that say who may call.
pub(crate) struct Files {
    folder: tempfile::TempDir,
}

/// An identity of the file with its token.
pub(crate) struct Known {
    pub(crate) name: String,
    pub(crate) roles: Vec<String>,
    pub(crate) may_unmask: bool,
    pub(crate) token: NewToken,
}

impl Known {
    pub(crate) fn new(name: &str, roles: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            may_unmask: false,
            token: NewToken::make().unwrap(),
        }
    }

    pub(crate) fn authorization(&self) -> String {
        format!("Bearer {}", self.token.token.as_str())
    }

    fn entry(&self) -> String {
        format!(
            "[[identity]]\nname = {:?}\ntokens_sha256 = [{:?}]\nroles = {:?}\nmay_unmask = {}\n",
            self.name, self.token.sha256, self.roles, self.may_unmask
        )
    }
}

impl Files {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn write_identities(&self, identities: &[&Known]) {
        let entries: String = identities.iter().map(|known| known.entry()).collect();
        self.write("identities.toml", &entries);
    }

    pub(crate) fn write_certificate(&self, issued: &Issued) {
        self.write("certificate.pem", &issued.certificate_pem);
        self.write("key.pem", &issued.key_pem);
    }

    /// Access by the identities file alone.
    pub(crate) fn by_tokens(&self) -> Access {
        let settings = AuthenticationSettings {
            identities_file: Some(self.path("identities.toml")),
            json_web_tokens: None,
        };
        Access {
            authentication: Authentication::open(&settings).unwrap(),
            transport: None,
        }
    }

    /// The same over TLS, with client certificates where there is a file of their authorities.
    pub(crate) fn over_tls(&self) -> Access {
        let authorities = self.path("authorities.pem");
        let settings = TransportSettings {
            certificate_file: self.path("certificate.pem"),
            key_file: self.path("key.pem"),
            client_authorities_file: authorities.exists().then_some(authorities),
        };
        Access {
            transport: Some(Transport::open(&settings).unwrap()),
            ..self.by_tokens()
        }
    }
}

/// A certificate with its key.
pub(crate) struct Issued {
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Issued {
    pub(crate) fn der(&self) -> &CertificateDer<'static> {
        &self.certificate
    }
}

/// Who issues certificates.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self {
            issuer: CertifiedIssuer::self_signed(parameters, key).unwrap(),
        }
    }

    fn certificate(&self) -> &Certificate {
        self.issuer.as_ref()
    }

    pub(crate) fn pem(&self) -> String {
        self.certificate().pem()
    }

    /// A certificate with this name: a SPIFFE id, or a DNS name.
    pub(crate) fn issue(&self, name: &str) -> Issued {
        self.issue_until(name, 4000)
    }

    pub(crate) fn issue_until(&self, name: &str, year: i32) -> Issued {
        let mut parameters = CertificateParams::default();
        parameters.subject_alt_names = vec![if name.contains(':') {
            SanType::URI(name.try_into().unwrap())
        } else {
            SanType::DnsName(name.try_into().unwrap())
        }];
        parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        Issued {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            certificate: certificate.der().clone(),
            key: key.serialize_der(),
        }
    }

    /// How a client connects that trusts this authority, with or without a certificate of its own.
    pub(crate) fn client(&self, own: Option<&Issued>) -> TlsConnector {
        let mut authorities = RootCertStore::empty();
        authorities.add(self.certificate().der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(authorities);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own.key.clone()));
                builder
                    .with_client_auth_cert(vec![own.certificate.clone()], key)
                    .unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        TlsConnector::from(Arc::new(config))
    }
}

/// A handshake.
pub(crate) async fn connect(connector: &TlsConnector, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    connector.connect(name, stream).await
}

/// A channel over TLS.
pub(crate) async fn tls_channel(
    connector: &TlsConnector,
    address: SocketAddr,
) -> Result<Channel, tonic::transport::Error> {
    let connector = connector.clone();
    let connect = tower::service_fn(move |_: Uri| {
        let connector = connector.clone();
        async move { connect(&connector, address).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost")
        .connect_with_connector(connect)
        .await
}

pub(crate) async fn plain_channel(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect().await.unwrap()
}

/// For clients: each call with an authorization header.
pub(crate) fn authorized(
    authorization: &str,
) -> impl FnMut(Request<()>) -> Result<Request<()>, Status> + Clone + Send + use<> {
    let value: MetadataValue<_> = authorization.parse().unwrap();
    move |mut request| {
        request.metadata_mut().insert("authorization", value.clone());
        Ok(request)
    }
}

/// Asks again until it is so. What is waited for comes within a second or so, and nothing tells of it.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < RELOAD_LIMIT, "{what} does not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
