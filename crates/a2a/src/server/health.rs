//! `grpc.health.v1`: serving until the drain begins. It needs no credentials.

use std::pin::Pin;
use std::sync::Arc;

use futures::stream::{self, Stream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::service::Service;
use crate::proto::a2a_service_server::A2aServiceServer;

/// Watches open at the same time. They need no credentials and end only with the agent, so a stranger must not open any number.
const WATCHES_MAX: usize = 64;

pub(super) struct Health {
    draining: CancellationToken,
    watches: Arc<Semaphore>,
}

impl Health {
    pub(super) fn new(draining: CancellationToken) -> Self {
        Self { draining, watches: Arc::new(Semaphore::new(WATCHES_MAX)) }
    }

    fn status(&self) -> ServingStatus {
        if self.draining.is_cancelled() { ServingStatus::NotServing } else { ServingStatus::Serving }
    }
}

fn is_known(service: &str) -> bool {
    service.is_empty() || service == <A2aServiceServer<Service> as NamedService>::NAME
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl tonic_health::pb::health_server::Health for Health {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        if !is_known(&service) {
            return Err(Status::not_found(format!("the service {service:?} is not served here")));
        }
        Ok(Response::new(answer(self.status())))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        if !is_known(&request.into_inner().service) {
            // The health protocol keeps such a watch open; a service that is not here never comes, so it ends
            // at once.
            let unknown = stream::once(async { Ok(answer(ServingStatus::ServiceUnknown)) });
            return Ok(Response::new(Box::pin(unknown)));
        }
        let open = Arc::clone(&self.watches).try_acquire_owned().map_err(|_| {
            Status::unavailable(format!("{WATCHES_MAX} watches are open; ask with `Check` instead"))
        })?;
        let states = stream::unfold((self.draining.clone(), open, None), async |(draining, open, last)| {
            let status = match last {
                None if !draining.is_cancelled() => ServingStatus::Serving,
                None => ServingStatus::NotServing,
                Some(ServingStatus::Serving) => {
                    draining.cancelled().await;
                    ServingStatus::NotServing
                }
                Some(_) => return None,
            };
            Some((Ok(answer(status)), (draining, open, Some(status))))
        });
        Ok(Response::new(Box::pin(states)))
    }
}
