//! What has arrived before a tracker is told to stop is answered, however much
//! it is.

mod support;

use karuta::bittorrent::AddressFamily;
use karuta::shard::survey::{Survey, SwarmView};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use support::{Server, Udp, WATCHDOG, config, word};

/// Holds its shard up.
struct Held {
    begins: Sender<()>,
    goes_on: Receiver<()>,
}

impl Survey for Held {
    fn swarm(&mut self, _swarm: &SwarmView<'_>) {}

    fn ready(&mut self) -> bool {
        // The test may have failed meanwhile.
        let _ = self.begins.send(());
        let _ = self.goes_on.recv_timeout(WATCHDOG);
        true
    }

    fn finish(self: Box<Self>) {}
}

/// Holds the only shard of a server up, until something is sent here.
fn hold(server: &Server) -> Sender<()> {
    let (begins, began) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel();
    let mut held = Some(Held { begins, goes_on });
    let held = |_| -> Box<dyn Survey> { Box::new(held.take().expect("one shard")) };
    server.surveys().send(held).expect("room");
    began.recv_timeout(WATCHDOG).expect("held");
    go_on
}

#[test]
fn all_datagrams_that_wait_are_answered() {
    const CLIENTS: usize = 9;
    /// As many as a client's socket holds for certain.
    const EACH: u32 = 50;
    let server = Server::start(&config(1));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| Udp::new(server.udp(AddressFamily::V4)))
        .collect();
    let go_on = hold(&server);
    for client in &clients {
        for number in 0..EACH {
            let connect = [
                &0x0417_2710_1980u64.to_be_bytes()[..],
                &0u32.to_be_bytes(),
                &number.to_be_bytes(),
            ];
            client.send(&connect.concat());
        }
    }
    server.stopper().stop();
    go_on.send(()).expect("held");
    drop(server);
    for (at, client) in clients.iter().enumerate() {
        for number in 0..EACH {
            let reply = client.receive();
            assert_eq!((reply.len(), word(&reply, 4)), (16, number), "client {at}");
        }
    }
}

/// What no shard has taken was not reloaded, and nobody waits for it.
#[test]
fn a_reload_that_a_stop_overtakes_fails() {
    let server = Server::start(&config(1));
    let go_on = hold(&server);
    let mut next = config(1);
    next.announce_interval *= 2;
    let reloader = server.reloader();
    let (begins, began) = mpsc::channel();
    let reload = thread::spawn(move || {
        begins.send(()).expect("heard");
        reloader.reload(&next).map_err(|error| error.to_string())
    });
    began.recv_timeout(WATCHDOG).expect("begins");
    server.stopper().stop();
    go_on.send(()).expect("held");
    let result = reload.join().expect("no panic");
    assert_eq!(result, Err("the tracker has stopped".to_owned()));
}
