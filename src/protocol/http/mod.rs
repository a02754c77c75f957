//! The HTTP tracker protocol: BEP 3, with BEP 7, 21, 23, 24, 31 and 48.
//!
//! The way of a request, and who decides what:
//!
//! ```text
//! parse_head(bytes) -> Partial      read on, within the time limit
//!                   -> Err          write_status(error.status()), close
//!                   -> Complete     method other than GET: 405
//!                                   Routes::find(path): none: 404
//! forwarded_client                  behind a proxy: whose request it is
//! parse_announce / parse_scrape     Err: write_failure, status 200
//! resolve_address                   Err: write_failure, status 200
//! begin_response, write_..., finish
//! ```
//!
//! Requests borrow from the read buffer, replies are appended to a `Vec` that
//! the caller keeps: once it has grown to the size of a reply nothing
//! allocates. Several requests may lie in one buffer (pipelining):
//! [`Head::head_len`] says where the next one begins.
//!
//! What differs between our manners and opentracker's goes through the methods
//! of [`crate::protocol::Dialect`] (`dialect.rs`), which frontends call.

mod announce;
mod dialect;
mod forwarded;
mod head;
mod opentracker;
pub mod percent;
pub mod query;
mod reply;
mod routes;
mod scrape;

pub use announce::{
    AnnounceQuery, ClaimedAddresses, Failure, NumWantLimits, Parameter, parse_announce,
    resolve_address,
};
pub use dialect::{Rejection, Route};
pub use forwarded::forwarded_client;
pub use head::{Head, HeadError, HeadOptions, HeadStatus, MAX_HEADERS, Method, parse_head};
pub use reply::{
    AnnounceReply, OpenResponse, RetryIn, Status, begin_response, write_announce_compact,
    write_announce_dictionary, write_failure, write_scrape, write_status, write_text,
};
pub use routes::{
    InvalidRoute, InvalidRouteReason, MAX_ROUTE_PARAMETERS, RouteKind, RouteMatch, RouteParameters,
    Routes,
};
pub use scrape::parse_scrape;
