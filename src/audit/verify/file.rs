//! Verifies an exported journal, line by line.

use std::io::{self, BufRead, Read};

use super::{Finding, Report, VerifyError, What, missing, report};
use crate::audit::bundle::{End, Head, LINE_BYTES_MAX, Line, MAGIC, PARTITIONS_MAX, Trailer, VERSION};
use crate::audit::chain::{Chain, Fault};

/// Checks an exported journal. `progress` hears how many bytes were read.
///
/// # Errors
/// [`VerifyError::Io`] if it could not be read; what is wrong in it is a finding.
pub fn verify(input: &mut dyn BufRead, progress: &mut dyn FnMut(u64)) -> Result<Report, VerifyError> {
    Ok(read(input, progress)?.0)
}

/// As [`verify`], and hands over what the records add up to, by partition.
///
/// # Errors
/// As [`verify`].
pub fn read(input: &mut dyn BufRead, progress: &mut dyn FnMut(u64)) -> Result<(Report, Vec<Chain>), VerifyError> {
    let mut lines = Lines { input, number: 0, text: Vec::new(), progress };
    let head = match read_head(&mut lines)? {
        Ok(head) => head,
        Err(finding) => return Ok((report(String::new(), &[], Some(finding)), Vec::new())),
    };
    let partitions = head.partitions;
    let mut bundle =
        Bundle { chains: (0..partitions).map(|p| Chain::new(p, partitions)).collect(), last_line: vec![0; partitions as usize] };
    let finding = bundle.read(&mut lines)?;
    Ok((report(head.journal, &bundle.chains, finding), bundle.chains))
}

struct Lines<'a> {
    input: &'a mut dyn BufRead,
    number: u64,
    text: Vec<u8>,
    progress: &'a mut dyn FnMut(u64),
}

impl Lines<'_> {
    /// The next line without its line feed; `None` at the end.
    fn advance(&mut self) -> Result<Option<&[u8]>, io::Error> {
        self.text.clear();
        let read = Read::take(&mut *self.input, LINE_BYTES_MAX).read_until(b'\n', &mut self.text)?;
        if read == 0 {
            return Ok(None);
        }
        (self.progress)(read as u64);
        self.number += 1;
        Ok(Some(&self.text))
    }
}

fn at_line(what: What, line: u64, message: impl Into<String>) -> Finding {
    Finding { what, partition: None, seq: None, line: Some(line), message: message.into() }
}

fn read_head(lines: &mut Lines<'_>) -> Result<Result<Head, Finding>, io::Error> {
    let Some(text) = lines.advance()? else {
        return Ok(Err(at_line(What::Truncated, 1, "the file is empty")));
    };
    Ok(match serde_json::from_slice::<Head>(text) {
        Err(e) => Err(at_line(What::Unreadable, 1, format!("the first line is not that of an exported journal: {e}"))),
        Ok(head) if head.annals != MAGIC => {
            Err(at_line(What::Unreadable, 1, format!("this is `{}`, not an exported journal", head.annals)))
        }
        Ok(head) if head.version != VERSION => {
            let message = format!("this is version {} of the format, and this build knows {VERSION}: use a newer build", head.version);
            Err(at_line(What::Unknown, 1, message))
        }
        Ok(head) if !(1..=PARTITIONS_MAX).contains(&head.partitions) => {
            Err(at_line(What::Edited, 1, format!("the first line names {} partitions", head.partitions)))
        }
        Ok(head) => Ok(head),
    })
}

struct Bundle {
    chains: Vec<Chain>,
    last_line: Vec<u64>,
}

impl Bundle {
    fn read(&mut self, lines: &mut Lines<'_>) -> Result<Option<Finding>, io::Error> {
        loop {
            let number = lines.number + 1;
            let Some(text) = lines.advance()? else { return Ok(Some(self.cut_short(number))) };
            if text.starts_with(b"{\"end\":") {
                return self.end(lines, number);
            }
            let (partition, fault) = match self.take(text, number) {
                Ok(()) => continue,
                Err(Bad::Finding(finding)) => return Ok(Some(finding)),
                Err(Bad::Fault(partition, fault)) => (partition, fault),
            };
            let next = self.chains[partition as usize].next_seq();
            let mut finding = Finding::of(partition, &fault, next);
            finding.line = Some(number);
            self.look_further(lines, &fault, &mut finding)?;
            return Ok(Some(finding));
        }
    }

    fn take(&mut self, text: &[u8], number: u64) -> Result<(), Bad> {
        let cut = !text.ends_with(b"\n") && (text.len() as u64) < LINE_BYTES_MAX;
        let line: Line<'_> = serde_json::from_slice(text).map_err(|e| {
            let what = if cut { What::Truncated } else { What::Unreadable };
            let reason = if cut { "the file ends within this line".to_owned() } else { format!("this line is not a record: {e}") };
            Bad::Finding(at_line(what, number, reason))
        })?;
        let known = usize::try_from(line.partition).ok().and_then(|p| self.chains.get_mut(p));
        let Some(chain) = known else {
            let message = format!("this line belongs to partition {}, which the journal does not have", line.partition);
            return Err(Bad::Finding(at_line(What::Edited, number, message)));
        };
        let record = line.record();
        if record.hash().to_string() != line.hash {
            let message = format!("its content has the hash {}, and it says {}: it was changed", record.hash(), line.hash);
            let seq = line.claimed_seq().or(Some(chain.next_seq()));
            let finding = Finding { what: What::Edited, partition: Some(line.partition), seq, line: Some(number), message };
            return Err(Bad::Finding(finding));
        }
        chain.take(&record).map_err(|fault| Bad::Fault(line.partition, fault))?;
        self.last_line[line.partition as usize] = number;
        Ok(())
    }

    /// The rest of the file tells apart what looks the same from here.
    fn look_further(&self, lines: &mut Lines<'_>, fault: &Fault, finding: &mut Finding) -> Result<(), io::Error> {
        let Some(partition) = finding.partition else { return Ok(()) };
        let before = self.last_line[partition as usize];
        match fault {
            Fault::Gap { seq, next } => {
                if let Some(elsewhere) = find(lines, |line| line.partition == partition && line.claimed_seq() == Some(*next))? {
                    finding.what = What::Swapped;
                    finding.message = format!("seq {next} should be here, and stands at line {elsewhere}; here is seq {seq}");
                }
            }
            Fault::Diverged { seq, kept, found } => {
                let (mut first, mut second) = (false, false);
                find(lines, |line| {
                    let prevhash = line.headers.iter().find(|(name, _)| name == "ce_prevhash").map(|(_, value)| value.to_string());
                    first |= prevhash.as_deref() == Some(&kept.to_string());
                    second |= prevhash.as_deref() == Some(&found.to_string());
                    first || second
                })?;
                if second && !first && self.chains[partition as usize].ledger().last_seq() == Some(*seq) {
                    finding.line = Some(before);
                }
            }
            Fault::Broken { seq, expected, .. } => {
                let follows = |line: &Line<'_>| {
                    let is = |name: &str, wanted: &str| line.headers.iter().any(|(n, v)| n == name && v == wanted);
                    line.partition == partition && is("ce_seq", &seq.to_string()) && is("ce_prevhash", &expected.to_string())
                };
                if let Some(real) = find(lines, follows)? {
                    finding.what = What::Inserted;
                    finding.seq = Some(*seq);
                    finding.message = format!("it does not follow from the record before it; the one that does is at line {real}");
                } else if before > 0 {
                    finding.line = Some(before);
                }
            }
            Fault::Repeated { .. } | Fault::Unlawful { .. } | Fault::Newer(_) => {}
        }
        Ok(())
    }

    /// The end of the file without the last line.
    fn cut_short(&self, number: u64) -> Finding {
        at_line(What::Truncated, number, "the file ends without its last line: records may be missing behind this place")
    }

    fn end(&self, lines: &mut Lines<'_>, number: u64) -> Result<Option<Finding>, io::Error> {
        let trailer: Trailer = match serde_json::from_slice(&lines.text) {
            Ok(trailer) => trailer,
            Err(e) => return Ok(Some(at_line(What::Unreadable, number, format!("the last line cannot be read: {e}")))),
        };
        if let Some(finding) = self.compare(&trailer, number) {
            return Ok(Some(finding));
        }
        let behind = lines.advance()?.is_some();
        Ok(behind.then(|| at_line(What::Inserted, number + 1, "there is something behind the last line of the export")))
    }

    fn compare(&self, trailer: &Trailer, number: u64) -> Option<Finding> {
        for (partition, chain) in (0_u32..).zip(&self.chains) {
            let end = trailer.end.get(&partition.to_string());
            if let Some(mut finding) = compare_head(partition, chain, end) {
                let is_missing = matches!(finding.what, What::Truncated | What::Dropped);
                finding.line = Some(if is_missing { number } else { self.last_line[partition as usize] });
                return Some(finding);
            }
        }
        let records: u64 = self.chains.iter().map(Chain::next_seq).sum();
        let wrong = trailer.records != records || trailer.end.len() != self.chains.len();
        wrong.then(|| {
            let message = format!("the last line speaks of {} records, and there are {records}", trailer.records);
            at_line(What::Edited, number, message)
        })
    }
}

fn compare_head(partition: u32, chain: &Chain, end: Option<&End>) -> Option<Finding> {
    let next = chain.next_seq();
    let finding = |what, seq, message: String| Some(Finding::new(what, partition, Some(seq), message));
    match end {
        None if next == 0 => finding(What::Dropped, 0, format!("partition {partition} is missing altogether")),
        None => finding(What::Inserted, 0, format!("partition {partition} has records, and the last line does not know it")),
        Some(end) if end.seq >= next => {
            finding(What::Truncated, next, format!("{} at the end of the partition", missing(next, end.seq.saturating_add(1))))
        }
        Some(end) if end.seq + 1 < next => {
            finding(What::Inserted, end.seq + 1, format!("the partition ended at seq {}, and now at {}", end.seq, next - 1))
        }
        Some(end) if end.hash != chain.ledger().last_hash().to_string() => finding(
            What::Edited,
            end.seq,
            format!("the last line says its hash is {}, and it is {}: it was rewritten", end.hash, chain.ledger().last_hash()),
        ),
        Some(_) => None,
    }
}

enum Bad {
    Finding(Finding),
    Fault(u32, Fault),
}

/// The number of the first line from here on that is a record and fits.
fn find(lines: &mut Lines<'_>, mut fits: impl FnMut(&Line<'_>) -> bool) -> Result<Option<u64>, io::Error> {
    loop {
        let number = lines.number + 1;
        let Some(text) = lines.advance()? else { return Ok(None) };
        if serde_json::from_slice::<Line<'_>>(text).is_ok_and(|line| fits(&line)) {
            return Ok(Some(number));
        }
    }
}
