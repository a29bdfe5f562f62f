//! A server that comes and goes: a port that leads to another while it is started, and refuses while it is not.

use std::io::copy;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// See the module.
pub struct Forwarder {
    address: SocketAddr,
    target: String,
    started: Option<Started>,
}

struct Started {
    stop: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    accepting: JoinHandle<()>,
}

impl Forwarder {
    /// A port that refuses until [`Forwarder::start`].
    pub fn to(target: &str) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Self { address, target: target.to_owned(), started: None }
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    pub fn start(&mut self) {
        let listener = TcpListener::bind(self.address).unwrap();
        let (stop, streams) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (target, stopped, kept) = (self.target.clone(), stop.clone(), streams.clone());
        let accepting = std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let server = TcpStream::connect(&target).unwrap();
                kept.lock().unwrap().extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                pump(client.try_clone().unwrap(), server.try_clone().unwrap());
                pump(server, client);
            }
        });
        self.started = Some(Started { stop, streams, accepting });
    }

    /// Cuts every connection and refuses new ones.
    pub fn stop(&mut self) {
        let Some(started) = self.started.take() else { return };
        started.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address); // wakes it
        started.accepting.join().unwrap();
        for stream in started.streams.lock().unwrap().iter() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.stop();
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        let _ = copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}
