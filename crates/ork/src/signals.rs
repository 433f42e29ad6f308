//! Ctrl-C and a polite stop.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{Failure, Result};

/// Listens to both signals. From the first one of these on neither ends the process by itself.
pub(crate) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

/// Who wants the command to end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// A person, by Ctrl-C.
    Interrupt,
    /// The system or a program, which can answer no question.
    Terminate,
}

impl Interrupts {
    /// Begins to listen.
    ///
    /// # Errors
    /// When the system does not let it.
    pub(crate) fn new() -> Result<Self> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failure::failed(format!("cannot listen to signals: {error}")))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// Waits for one.
    pub(crate) async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.interrupt.recv() => Told::Interrupt,
            _ = self.terminate.recv() => Told::Terminate,
        }
    }

    /// Ends in order, or at the next signal at once, with the exit code of a process that it killed.
    pub(crate) async fn end(&mut self, ending: impl Future<Output = ()>) {
        tokio::select! {
            biased;
            () = ending => {}
            told = self.next() => std::process::exit(match told {
                Told::Interrupt => 130,
                Told::Terminate => 143,
            }),
        }
    }
}
