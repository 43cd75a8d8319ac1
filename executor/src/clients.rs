//! Connections to other executors, one for each, kept while they are used.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ballista_core::client::BallistaClient;
use ballista_core::client_pool::{BallistaClientPool, PooledClient};
use ballista_core::error::Result;
use ballista_core::extension::BallistaConfigGrpcEndpoint;
use ballista_core::utils::GrpcClientConfig;
use parking_lot::Mutex;

/// A connection that nobody used for so long is closed.
const IDLE: Duration = Duration::from_secs(60);

/// One connection for each executor: HTTP/2 carries many requests at once, and reconnects by itself.
#[derive(Default)]
pub struct Clients {
    known: Mutex<HashMap<(String, u16), (BallistaClient, Instant)>>,
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clients({})", self.known.lock().len())
    }
}

#[async_trait]
impl BallistaClientPool for Clients {
    async fn acquire(
        &self,
        host: &str,
        port: u16,
        config: &GrpcClientConfig,
        customize_endpoint: Option<Arc<BallistaConfigGrpcEndpoint>>,
    ) -> Result<PooledClient> {
        let key = (host.to_string(), port);
        let known = self.known.lock().get_mut(&key).map(|(client, used)| {
            *used = Instant::now();
            client.clone()
        });
        let client = match known {
            Some(client) => client,
            None => {
                let client = BallistaClient::try_new(
                    host,
                    port,
                    config.max_message_size,
                    config.use_tls,
                    customize_endpoint,
                    config.io_retries_times,
                    config.io_retry_wait_time_ms,
                    config.initial_connection_window_size,
                    config.initial_stream_window_size,
                )
                .await?;
                self.known.lock().insert(key, (client.clone(), Instant::now()));
                client
            }
        };
        Ok(PooledClient::new(client, Box::new(drop)))
    }

    async fn evict_idle(&self) {
        self.known.lock().retain(|_, (_, used)| used.elapsed() < IDLE);
    }
}
