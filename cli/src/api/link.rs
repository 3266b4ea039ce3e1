//! A connection whose every call carries one request id, under which all logs can be searched.

use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};
use warren_proto::REQUEST_ID;

/// What calls are made on.
pub(crate) type Link = InterceptedService<Channel, Named>;

/// Adds the request id.
#[derive(Debug, Clone)]
pub(crate) struct Named(Option<MetadataValue<Ascii>>);

/// Returns the connection with `request` on every call.
pub(crate) fn named(channel: Channel, request: &str) -> Link {
    InterceptedService::new(channel, Named(request.parse().ok()))
}

impl Interceptor for Named {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(id) = &self.0 {
            request.metadata_mut().insert(REQUEST_ID, id.clone());
        }
        Ok(request)
    }
}
