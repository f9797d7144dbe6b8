//! Runs scenarios as tests: each on SQLite and on PostgreSQL, with a database and a server of its own.
//!
//! A behaviour module says which functions are scenarios:
//!
//! ```ignore
//! scenarios![posting_twice_changes_nothing, posting_refuses_an_unknown_currency];
//!
//! async fn posting_twice_changes_nothing(app: App) { .. }
//! ```
//!
//! and, where some are not for each database alike, of which kind they are:
//!
//! ```ignore
//! scenarios![
//!     posting_twice_changes_nothing;              // async fn(App), on SQLite and on PostgreSQL
//!     postgres_only: settling_waits_for_a_lock;   // async fn(App)
//!     sqlite_only: a_second_server_is_refused;    // async fn(App)
//!     both: answers_are_the_same;                 // async fn(App, App): first SQLite, then PostgreSQL
//!     units: help_names_every_command;            // fn()
//! ];
//! ```

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::io::{self, Write as _};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::app::App;
use super::database::{Databases, Engine, Migrate, TestDatabase};
use super::postgres::{Found, Postgres};

/// Makes the run fail when PostgreSQL is not found, instead of leaving its tests out.
const REQUIRE_VARIABLE: &str = "BILLING_TEST_REQUIRE_POSTGRES";

const TEST_THREADS: usize = 4;
const WORKER_THREADS: usize = 4;

/// Far more than any step takes: so that one that hangs fails with its name instead of holding up the run.
const STEP_LIMIT: Duration = Duration::from_secs(300);
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);

/// Gives a module its `scenarios()`; the module doc shows how.
macro_rules! scenarios {
    ($($kind:ident: $($name:ident),+ $(,)?);+ $(;)?) => {
        pub(crate) fn scenarios() -> Vec<$crate::support::harness::Scenario> {
            let scenarios = [$($($crate::support::harness::Scenario::$kind(
                concat!(module_path!(), "::", stringify!($name)),
                $name,
            )),+),+];
            scenarios.into_iter().flatten().collect()
        }
    };
    ($($each:ident),+ $(,)? $(; $($kind:ident: $($name:ident),+ $(,)?);+)? $(;)?) => {
        $crate::support::harness::scenarios![each: $($each),+ $(; $($kind: $($name),+);+)?];
    };
}
pub(crate) use scenarios;

type Running = Pin<Box<dyn Future<Output = ()>>>;
type RunOne = dyn Fn(App) -> Running + Send + Sync;
type RunTwo = dyn Fn(App, App) -> Running + Send + Sync;

/// A test with its databases.
pub(crate) struct Scenario {
    name: String,
    task: Task,
}

enum Task {
    OnSqlite(Arc<RunOne>),
    OnPostgres(Arc<RunOne>),
    OnBoth(Box<RunTwo>),
    Unit(fn()),
}

/// One function for each kind of scenario, of the name that the macro takes.
impl Scenario {
    pub(crate) fn each<F: Future<Output = ()> + 'static>(path: &str, run: fn(App) -> F) -> Vec<Self> {
        let run: Arc<RunOne> = Arc::new(move |app| Box::pin(run(app)));
        let on_sqlite = Self::new("sqlite", path, Task::OnSqlite(Arc::clone(&run)));
        vec![on_sqlite, Self::new("postgres", path, Task::OnPostgres(run))]
    }

    pub(crate) fn sqlite_only<F: Future<Output = ()> + 'static>(path: &str, run: fn(App) -> F) -> Vec<Self> {
        let run = Arc::new(move |app| -> Running { Box::pin(run(app)) });
        vec![Self::new("sqlite", path, Task::OnSqlite(run))]
    }

    pub(crate) fn postgres_only<F: Future<Output = ()> + 'static>(path: &str, run: fn(App) -> F) -> Vec<Self> {
        let run = Arc::new(move |app| -> Running { Box::pin(run(app)) });
        vec![Self::new("postgres", path, Task::OnPostgres(run))]
    }

    pub(crate) fn both<F: Future<Output = ()> + 'static>(path: &str, run: fn(App, App) -> F) -> Vec<Self> {
        let run = Box::new(move |sqlite, postgres| -> Running { Box::pin(run(sqlite, postgres)) });
        vec![Self::new("both", path, Task::OnBoth(run))]
    }

    pub(crate) fn units(path: &str, run: fn()) -> Vec<Self> {
        vec![Self::new("unit", path, Task::Unit(run))]
    }

    fn new(kind: &str, path: &str, task: Task) -> Self {
        // The crate's name, with which every path begins, tells nothing.
        let path = path.split_once("::").map_or(path, |(_crate, path)| path);
        Self {
            name: format!("{kind}::{path}"),
            task,
        }
    }

    fn needs_postgres(&self) -> bool {
        matches!(self.task, Task::OnPostgres(_) | Task::OnBoth(_))
    }

    fn is_selected(&self, arguments: &Arguments) -> bool {
        !arguments.is_filtered_out(&Trial::test(self.name.as_str(), || Ok(())))
    }

    fn into_trial(self, world: &Arc<World>, is_postgres_missing: bool) -> Trial {
        let is_ignored = is_postgres_missing && self.needs_postgres();
        let world = Arc::clone(world);
        Trial::test(self.name, move || world.run(self.task).map_err(Failed::from)).with_ignored_flag(is_ignored)
    }
}

/// Runs the scenarios that the command line asks for, of all behaviours.
pub(crate) fn main(migrate: Migrate, behaviours: Vec<Vec<Scenario>>) -> ExitCode {
    let scenarios = behaviours.into_iter().flatten().collect();
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(TEST_THREADS);
    match run(&arguments, migrate, scenarios) {
        Ok(code) => code,
        Err(error) => {
            say(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments, migrate: Migrate, scenarios: Vec<Scenario>) -> Result<ExitCode, String> {
    let on_postgres = scenarios
        .iter()
        .filter(|scenario| scenario.needs_postgres() && scenario.is_selected(arguments))
        .count();
    let mut postgres = None;
    let mut left_out = None;
    if on_postgres > 0 && !arguments.list {
        match Postgres::start()? {
            Found::Started(started) => postgres = Some(started),
            Found::NotFound(advice) => left_out = Some(advice),
        }
    }
    if let (Some(advice), true) = (&left_out, is_postgres_required()) {
        return Err(format!(
            "PostgreSQL was not found, and {REQUIRE_VARIABLE} is set:\n{advice}"
        ));
    }

    install_panic_hook();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start the runtime: {error}"))?;
    if let Some(postgres) = &postgres {
        runtime.block_on(postgres.connect())?;
    }
    let world = Arc::new(World {
        runtime,
        databases: Databases::new(migrate, postgres),
    });
    let trials = scenarios
        .into_iter()
        .map(|scenario| scenario.into_trial(&world, left_out.is_some()))
        .collect();
    let conclusion = libtest_mimic::run(arguments, trials);
    Arc::into_inner(world).ok_or("a test still runs")?.finish()?;

    if let Some(advice) = left_out {
        say(&format!(
            "\nPostgreSQL was not found: {on_postgres} tests were LEFT OUT. To run them too,\n{advice}\n"
        ));
    }
    Ok(conclusion.exit_code())
}

fn is_postgres_required() -> bool {
    std::env::var_os(REQUIRE_VARIABLE).is_some_and(|value| !value.is_empty() && value != "0")
}

fn say(text: &str) {
    // There is nobody to tell when this fails.
    let _ = writeln!(io::stderr(), "{text}");
}

/// What all tests of a run share.
struct World {
    runtime: Runtime,
    databases: Databases,
}

impl World {
    fn run(&self, task: Task) -> Result<(), String> {
        RECORDS_PANICS.set(true);
        let outcome = match task {
            Task::OnSqlite(run) => self.run_on(Engine::Sqlite, run),
            Task::OnPostgres(run) => self.run_on(Engine::Postgres, run),
            Task::OnBoth(run) => self.run_on_both(run),
            Task::Unit(run) => catch_unwind(run).map_err(|panic| described(panic, "the test")),
        };
        RECORDS_PANICS.set(false);
        outcome
    }

    fn run_on(&self, engine: Engine, run: Arc<RunOne>) -> Result<(), String> {
        self.runtime
            .block_on(self.with_app(engine, async |app| step("the scenario", run(app)).await))
    }

    fn run_on_both(&self, run: Box<RunTwo>) -> Result<(), String> {
        self.runtime.block_on(self.with_app(Engine::Sqlite, async |sqlite| {
            self.with_app(Engine::Postgres, async |postgres| {
                step("the scenario", run(sqlite, postgres)).await
            })
            .await
        }))
    }

    /// Gives an application on a new database to a scenario, and clears both up however that ends.
    async fn with_app(&self, engine: Engine, run: impl AsyncFnOnce(App) -> Result<(), String>) -> Result<(), String> {
        let database = self.databases.create(engine).await?;
        let name = match &database {
            TestDatabase::Sqlite { .. } => None,
            TestDatabase::Postgres { name, .. } => Some(name.clone()),
        };
        let outcome = with_app_on(database, run).await;
        let dropped = match name {
            Some(name) => self.databases.drop_postgres(&name).await,
            None => Ok(()),
        };
        all([outcome, dropped])
    }

    fn finish(self) -> Result<(), String> {
        let finished = self.runtime.block_on(self.databases.finish());
        self.runtime.shutdown_timeout(SHUTDOWN_LIMIT);
        finished
    }
}

async fn with_app_on(database: TestDatabase, run: impl AsyncFnOnce(App) -> Result<(), String>) -> Result<(), String> {
    let app = step("the application's start", App::start(database)).await?;
    let outcome = run(app.clone()).await;
    let finished = step("the application's finish", app.finish()).await;
    all([outcome, finished])
}

/// Succeeds when all have, else tells every failure.
fn all<const COUNT: usize>(outcomes: [Result<(), String>; COUNT]) -> Result<(), String> {
    let failures: Vec<String> = outcomes.into_iter().filter_map(Result::err).collect();
    if failures.is_empty() {
        Ok(())
    } else {
        Err(failures.join("\n\n"))
    }
}

/// Turns a panic, or taking far too long, into an error.
async fn step<T>(name: &str, future: impl Future<Output = T>) -> Result<T, String> {
    match timeout(STEP_LIMIT, AssertUnwindSafe(future).catch_unwind()).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(panic)) => Err(described(panic, name)),
        Err(_elapsed) => Err(format!("{name} did not end within {} s", STEP_LIMIT.as_secs())),
    }
}

thread_local! {
    static RECORDS_PANICS: Cell<bool> = const { Cell::new(false) };
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps what a test's own thread panics with, and where, for the test's failure. Panics of other threads, such as the
/// server's, are printed at once.
fn install_panic_hook() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if RECORDS_PANICS.get() {
            LAST_PANIC.replace(Some(told(info)));
        } else {
            print(info);
        }
    }));
}

fn told(info: &PanicHookInfo<'_>) -> String {
    let place = info
        .location()
        .map_or(String::new(), |location| format!(" at {location}"));
    let message = info.payload_as_str().unwrap_or("(without a message)");
    format!("panicked{place}:\n{message}")
}

fn described(panic: Box<dyn Any + Send>, name: &str) -> String {
    let recorded = LAST_PANIC.take();
    let told = recorded.unwrap_or_else(|| {
        // The hook is not called for a panic that is handed on from another thread.
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
        format!("panicked:\n{}", message.unwrap_or("(without a message)"))
    });
    format!("{name} {told}")
}
