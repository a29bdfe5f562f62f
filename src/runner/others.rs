//! The views that another engine writes: where they are, and whether that engine is still there.

use std::time::{Duration, Instant};

use annals_projections::Position;

use super::{Line, PAUSE_MIN, Runner, Trouble, count};

/// Pause between two looks at where a view is, while somebody waits for it, and otherwise.
const LOOK_MIN: Duration = Duration::from_millis(100);
const LOOK_MAX: Duration = Duration::from_secs(1);
/// How often it is seen whether the engine that applies is gone.
const LEAD_EVERY: Duration = Duration::from_secs(2);

impl Runner {
    /// Looks where the view is, until it is time to see whether this engine is to apply.
    pub(super) async fn watch(&self, line: &Line, pause: &mut Duration) -> Result<(), Trouble> {
        let (begun, mut stopping) = (Instant::now(), self.stopping.clone());
        while !self.stopped() && (!self.applies || begun.elapsed() < LEAD_EVERY) {
            let positions = self.views.positions(line.name).await?;
            self.note(line, &positions);
            *pause = PAUSE_MIN;
            tokio::select! {
                () = tokio::time::sleep(LOOK_MAX) => {}
                () = async { tokio::join!(line.hurry.notified(), tokio::time::sleep(LOOK_MIN)); } => {}
                () = line.again.notified() => {}
                _ = stopping.wait_for(|stop| *stop) => {}
            }
        }
        Ok(())
    }

    fn note(&self, line: &Line, positions: &[Position]) {
        let seqs = self.seqs_at(positions);
        let heads = self.door.heads();
        let behind = heads.iter().zip(&seqs).any(|(head, seq)| count(head.seq) > count(*seq));
        line.seqs.send_replace(seqs);
        if behind {
            line.behind();
            line.goes_on();
        } else {
            line.caught_up();
        }
    }
}
