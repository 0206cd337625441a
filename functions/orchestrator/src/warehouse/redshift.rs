//! Amazon Redshift by its Data API, which needs no connection and no driver: a load is handed over and ends by an event.

use async_trait::async_trait;
use aws_sdk_redshiftdata::Client;
use aws_sdk_redshiftdata::config::Config;
use aws_sdk_redshiftdata::config::retry::RetryConfig;
use aws_sdk_redshiftdata::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_redshiftdata::types::StatusString;
use sha2::{Digest, Sha256};
use weir_contract::contract;
use weir_delivery::Failure;

use super::sql::Place;
use super::{LoadState, NotBegun, Order, Warehouse};

/// What the template says of the warehouse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redshift {
    /// Which.
    pub target: Target,
    /// `REDSHIFT_DATABASE`.
    pub database: String,
    /// `REDSHIFT_SECRET`: the ARN of the secret to sign in with; without one, it is as the function's role.
    pub secret: Option<String>,
    /// `REDSHIFT_SCHEMA` and `REDSHIFT_COPY_ROLE`.
    pub place: Place,
}

/// A warehouse's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `REDSHIFT_WORKGROUP`: of Redshift Serverless.
    Workgroup(String),
    /// `REDSHIFT_CLUSTER`: a provisioned one.
    Cluster(String),
}

/// What the Data API calls a load: with the stack, so that its event finds back. The rule in the template matches it.
pub fn statement_name(stack: &str, dataset: &str) -> String {
    format!("{stack}:{dataset}")
}

/// The Data API.
pub struct DataApi {
    client: Client,
    stack: String,
    redshift: Redshift,
}

impl DataApi {
    /// Of a warehouse.
    pub fn new(config: &weir_lake::SdkConfig, stack: &str, redshift: Redshift) -> Self {
        Self { client: Client::new(config), stack: stack.to_owned(), redshift }
    }

    fn name(&self) -> &str {
        let (Target::Workgroup(name) | Target::Cluster(name)) = &self.redshift.target;
        name
    }

    fn failed<E>(&self, doing: &str, error: &SdkError<E, aws_sdk_redshiftdata::config::http::HttpResponse>) -> Failure
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let said = error.message().map_or_else(|| DisplayErrorContext(error).to_string(), str::to_owned);
        failure(error.code(), status, format!("{doing} Redshift {}: {said}", self.name()))
    }
}

/// By the codes of the Data API (API reference, BatchExecuteStatement).
fn failure(code: Option<&str>, status: Option<u16>, reason: String) -> Failure {
    match code {
        // Too many at a time: that passes, whatever its status is.
        Some(code @ ("ActiveStatementsExceededException" | "ActiveSessionsExceededException")) => {
            Failure::passing(code, reason)
        }
        // What the template names is not there, or not so.
        Some(code @ ("ValidationException" | "ResourceNotFoundException")) => Failure::user(code, reason),
        code => Failure::aws(code, status, reason),
    }
}

/// Whether an answer with this status means that nothing was begun.
fn is_refusal(status: Option<u16>) -> bool {
    status.is_some_and(|status| (400..500).contains(&status))
}

#[async_trait]
impl Warehouse for DataApi {
    async fn begin(&self, order: &Order) -> Result<String, NotBegun> {
        let unknown = |error: weir_contract::NoContract| Failure::internal("UnknownDataset", error.to_string());
        let contract = contract(&order.dataset).map_err(|error| NotBegun::Refused(unknown(error)))?;
        let Redshift { target, database, secret, place } = &self.redshift;
        let (workgroup, cluster) = match target {
            Target::Workgroup(name) => (Some(name.clone()), None),
            Target::Cluster(name) => (None, Some(name.clone())),
        };
        let mut statements = if order.prepares { place.preparation(&contract) } else { Vec::new() };
        statements.extend(place.load(&contract, &order.runs));
        let begun = self
            .client
            .batch_execute_statement()
            .set_workgroup_name(workgroup)
            .set_cluster_identifier(cluster)
            .database(database)
            .set_secret_arn(secret.clone())
            .set_sqls(Some(statements))
            .statement_name(statement_name(&self.stack, &order.dataset))
            // It may have 64 characters.
            .client_token(hex::encode(Sha256::digest(&order.token)))
            .with_event(true)
            .customize()
            // A refusal must speak of the first time it was asked for.
            .config_override(Config::builder().retry_config(RetryConfig::disabled()))
            .send()
            .await;
        let begun = begun.map_err(|error| {
            let status = error.raw_response().map(|response| response.status().as_u16());
            let why = self.failed("load into", &error);
            if is_refusal(status) { NotBegun::Refused(why) } else { NotBegun::Unheard(why) }
        })?;
        let nameless = || Failure::passing("NoStatementId", "Redshift began a load and did not say which");
        begun.id.ok_or_else(|| NotBegun::Unheard(nameless()))
    }

    async fn look(&self, statement: &str) -> Result<Option<LoadState>, Failure> {
        match self.client.describe_statement().id(statement).send().await {
            Ok(answer) => Ok(Some(match answer.status() {
                Some(StatusString::Finished) => LoadState::Done,
                Some(status @ (StatusString::Failed | StatusString::Aborted)) => {
                    let said = answer.error().filter(|said| !said.is_empty()).unwrap_or("it did not say why");
                    LoadState::Failed(format!("{status}: {said}"))
                }
                _ => LoadState::Going,
            })),
            Err(error) if error.code() == Some("ResourceNotFoundException") => Ok(None),
            Err(error) => Err(self.failed("ask for a load of", &error)),
        }
    }

    async fn cancel(&self, statement: &str) -> Result<(), Failure> {
        let cancelled = self.client.cancel_statement().id(statement).send().await;
        cancelled.map(|_| ()).map_err(|error| self.failed("break off a load of", &error))
    }

    fn shape(&self, dataset: &str) -> String {
        let statements = contract(dataset).map(|contract| self.redshift.place.preparation(&contract));
        let all = format!("{} {} {:?}", self.name(), self.redshift.database, statements.unwrap_or_default());
        hex::encode(Sha256::digest(all)).chars().take(16).collect()
    }

    fn table(&self, dataset: &str) -> String {
        self.redshift.place.table(dataset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_delivery::Fault;

    #[test]
    fn refusals_are_whose_fault_they_are() {
        let of = |code, status| failure(Some(code), Some(status), String::new());
        for (code, status, fault, passes) in [
            ("ValidationException", 400, Fault::User, false),
            ("ResourceNotFoundException", 400, Fault::User, false),
            ("AccessDeniedException", 400, Fault::User, false),
            ("ActiveStatementsExceededException", 400, Fault::External, true),
            ("ThrottlingException", 400, Fault::External, true),
            ("InternalServerException", 500, Fault::External, true),
        ] {
            let failure = of(code, status);
            assert_eq!((failure.fault, failure.passes()), (fault, passes), "{code}");
        }
        assert!(failure(None, None, String::new()).passes(), "no answer");
        let refusals = [Some(400), Some(429), Some(500), None].map(is_refusal);
        assert_eq!(refusals, [true, true, false, false]);
    }
}
