//! stub
use crate::{config::RunConfig,pace::{Progress,Timeline},stats::Stats,workload::SwarmTooBig};
/// x
#[derive(Debug)] pub struct HttpError; impl std::fmt::Display for HttpError{fn fmt(&self,_:&mut std::fmt::Formatter<'_>)->std::fmt::Result{Ok(())}}
/// x
pub struct Prepared; impl Prepared{/// x
pub fn new(_:&RunConfig)->Result<Prepared,HttpError>{Err(HttpError)}}
/// x
pub struct HttpLoad; impl HttpLoad{/// x
pub fn new(_:&RunConfig,_:Prepared,_:usize)->HttpLoad{HttpLoad}
/// x
pub fn run(self,_:&Timeline,_:&Progress)->Result<(Stats,u64),SwarmTooBig>{unimplemented!()}}
