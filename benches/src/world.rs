//! A database with the service on it.

use tempfile::TempDir;
use tonic::transport::Channel;

use crate::cluster::Cluster;
use crate::driver::Driver;
use crate::service::Service;
use crate::{Options, Outcome, seed, service};

/// Which database.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// A throw-away PostgreSQL.
    Postgres,
    /// A file.
    Sqlite,
}

/// The user that the yardstick connects as, so that PostgreSQL tells both sides apart.
const YARDSTICK: &str = "yardstick";

/// A database, the service that serves from it, and a connection beside it. Fields are dropped in this order.
pub(crate) struct World {
    pub(crate) channel: Channel,
    pub(crate) driver: Driver,
    pub(crate) service: Service,
    database_url: String,
    yardstick_url: String,
    statements: bool,
    pub(crate) cluster: Option<Cluster>,
    _folder: Option<TempDir>,
}

impl World {
    /// Makes the database and starts the service.
    pub(crate) async fn make(options: &Options) -> Outcome<Self> {
        service::build()?;
        match options.database {
            Kind::Postgres => Self::on_postgres(options).await,
            Kind::Sqlite => Self::on_sqlite().await,
        }
    }

    async fn on_postgres(options: &Options) -> Outcome<Self> {
        let mut settings = options.setting.clone();
        if options.statements {
            settings.push("shared_preload_libraries=pg_stat_statements".to_owned());
        }
        let cluster = Cluster::start(&settings)?;
        let database_url = cluster.url("postgres");
        service::run("migrate", &database_url)?;
        let mut driver = Driver::connect(&database_url).await?;
        driver
            .script(&format!("CREATE ROLE {YARDSTICK} SUPERUSER LOGIN"))
            .await?;
        if options.statements {
            driver.script("CREATE EXTENSION pg_stat_statements").await?;
        }
        let service = Service::start(&database_url)?;
        Ok(Self {
            channel: service.channel().await?,
            driver,
            service,
            yardstick_url: cluster.url(YARDSTICK),
            database_url,
            statements: options.statements,
            cluster: Some(cluster),
            _folder: None,
        })
    }

    async fn on_sqlite() -> Outcome<Self> {
        let folder = tempfile::Builder::new().prefix("billing-bench-").tempdir()?;
        let database_url = format!("sqlite://{}", folder.path().join("billing.db").display());
        let service = Service::start(&database_url)?;
        Ok(Self {
            channel: service.channel().await?,
            driver: Driver::connect(&database_url).await?,
            service,
            yardstick_url: database_url.clone(),
            database_url,
            statements: false,
            cluster: None,
            _folder: Some(folder),
        })
    }

    /// A connection for the yardstick.
    pub(crate) async fn yardstick(&self) -> Outcome<Driver> {
        Driver::connect(&self.yardstick_url).await
    }

    /// Forgets what statements took so far: seeding is not measured.
    pub(crate) async fn forget_statements(&mut self) -> Outcome<()> {
        if self.statements {
            self.driver.script("SELECT pg_stat_statements_reset()").await?;
        }
        Ok(())
    }

    /// What the statements took, if that was asked for, and whether both sides ran the same; then `affiliate-billing verify`.
    pub(crate) async fn finish(mut self) -> Outcome<()> {
        if self.statements {
            self.print_statements().await?;
        }
        seed::tidy(&mut self.driver).await?;
        service::run("verify", &self.database_url)?;
        println!("  affiliate-billing verify: sound");
        Ok(())
    }

    async fn print_statements(&mut self) -> Outcome<()> {
        let sql = "SELECT rolname::text, to_char(total_exec_time, 'FM999999990.0'), calls, left(regexp_replace(query, '\\s+', ' ', 'g'), 110), \
                to_char(total_exec_time / calls, 'FM999999990.000'), queryid::text \
            FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid \
            WHERE query ~* '^(select|insert|update|delete|begin|commit|set|with)' AND query !~ 'pg_' AND calls > 1 \
            ORDER BY total_exec_time DESC LIMIT 40";
        println!("  statements by time: side, ms in all, calls, ms each");
        for row in self.driver.fetch(sql, Vec::new()).await? {
            println!(
                "    {:<10} {:>10} {:>8} {:>9}  {}",
                if row.text(0)? == YARDSTICK {
                    "yardstick"
                } else {
                    "service"
                },
                row.text(1)?,
                row.bigint(2)?,
                row.text(4)?,
                row.text(3)?
            );
        }
        let sql = format!(
            "SELECT left(regexp_replace(min(query), '\\s+', ' ', 'g'), 200), min(rolname)::text FROM pg_stat_statements s \
             JOIN pg_roles r ON r.oid = s.userid WHERE query ~* '^(select|insert|update|delete)' AND calls > 1 \
             GROUP BY queryid HAVING count(DISTINCT userid) = 1 AND min(rolname) = '{YARDSTICK}'"
        );
        let foreign = self.driver.fetch(&sql, Vec::new()).await?;
        for row in &foreign {
            println!("    only the yardstick ran: {}", row.text(0)?);
        }
        if foreign.is_empty() {
            println!("  the yardstick ran no statement that the service did not run");
            return Ok(());
        }
        Err("the yardstick ran statements that the service does not run: change benches/src/statements.rs".into())
    }
}
