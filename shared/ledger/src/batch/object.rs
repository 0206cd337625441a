//! The life of a landed object as pure functions.
//!
//! ```text
//!   (event) ──land──▶ PENDING ──mark──▶ CLAIMED ──done──▶ DONE
//!                                     ▲    └──refuse──▶ REFUSED ──(a newer version)──▶ PENDING
//!                                     └──mark, when the run is made again (by a person)──── DONE
//! ```
//!
//! Objects are write-once: a newer version of a key that is claimed or done is kept as `newer`, raises an alert and waits for
//! a person, because its rows would otherwise be there twice, or half.

use serde::{Deserialize, Serialize};

/// One version of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// As S3 has it, without quotes.
    pub etag: String,
    /// In bytes.
    pub size: u64,
    /// S3's: orders the events of one key. Empty where the object was found by listing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sequencer: String,
    /// When it landed, in milliseconds since the epoch.
    pub landed_ms: u64,
}

/// An object's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Landed {
    /// Whose it is.
    pub dataset: String,
    /// Where it is: `s3://bucket/key`.
    pub uri: String,
    /// The version that counts.
    #[serde(flatten)]
    pub version_of: Version,
    /// Where it stands.
    pub standing: Standing,
    /// The run that claimed it, or did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// A newer version that a person must look at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newer: Option<Version>,
    /// Which claim of that run, as its lane numbers them: a run that is made again claims anew.
    #[serde(default)]
    pub claim: u64,
    /// How many files it names, if it is a [list](crate::positions::Manifest) of what was committed with it, instead of data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list_of: Option<u64>,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Counts the writes of this record.
    pub version: u64,
    /// Names the write that made this version.
    pub write_token: String,
}

/// Where an object stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Standing {
    /// No run has it.
    Pending,
    /// A run has it.
    Claimed,
    /// A run has done it.
    Done,
    /// A run could not read it.
    Refused,
}

/// What becomes of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Landing {
    /// Work, if this is stored.
    Pending(Landed),
    /// A person must look, if this is stored.
    Conflict(Landed),
    /// Nothing: it is known, or older than what is.
    Known,
}

/// Decides an event on what is stored.
pub fn land(stored: Option<&Landed>, dataset: &str, uri: &str, version: Version) -> Landing {
    let Some(known) = stored else { return Landing::Pending(new(dataset, uri, version)) };
    let newest = known.newer.as_ref().unwrap_or(&known.version_of);
    // What could not be read may land again as it was.
    let same = version.etag == newest.etag || version.etag == known.version_of.etag;
    if same && known.standing != Standing::Refused || !is_newer(&version, newest) {
        return Landing::Known;
    }
    match known.standing {
        Standing::Pending | Standing::Refused => Landing::Pending(pending(known, version)),
        Standing::Claimed | Standing::Done => {
            Landing::Conflict(Landed { newer: Some(version), version: known.version + 1, ..known.clone() })
        }
    }
}

fn new(dataset: &str, uri: &str, version: Version) -> Landed {
    Landed {
        dataset: dataset.to_owned(),
        uri: uri.to_owned(),
        version_of: version,
        standing: Standing::Pending,
        run: None,
        claim: 0,
        newer: None,
        list_of: None,
        reason: None,
        version: 1,
        write_token: String::new(),
    }
}

/// A list of so many committed files, `bytes` in all. It is PENDING by the transaction that commits them, not by an event.
pub fn list(dataset: &str, uri: &str, files: u64, bytes: u64, now_ms: u64) -> Landed {
    // Its name is unlike any other's, so it has one version.
    let version = Version { etag: String::new(), size: bytes, sequencer: String::new(), landed_ms: now_ms };
    Landed { list_of: Some(files), ..new(dataset, uri, version) }
}

/// Of two versions of one key: the sequencer orders them, compared as hexadecimal numbers of which the shorter is padded on
/// the right (S3 user guide, "Event message structure"). Without it the time does.
fn is_newer(a: &Version, b: &Version) -> bool {
    if a.sequencer.is_empty() || b.sequencer.is_empty() {
        return a.landed_ms > b.landed_ms;
    }
    let width = a.sequencer.len().max(b.sequencer.len());
    let padded = |text: &str| format!("{:0<width$}", text.to_ascii_uppercase());
    padded(&a.sequencer) > padded(&b.sequencer)
}

fn pending(known: &Landed, version: Version) -> Landed {
    Landed {
        version_of: version,
        standing: Standing::Pending,
        run: None,
        newer: None,
        reason: None,
        version: known.version + 1,
        ..known.clone()
    }
}

/// What becomes of claiming a listed object for a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// It is the run's, if this is stored.
    Take(Box<Landed>),
    /// It is the run's already.
    Taken,
    /// It is not as it was listed: another version, or another run's.
    Leave,
}

/// Claims an object for a run, if it is still what was listed. A run that is made again, because a person said that newer
/// versions count, claims what it had done before, and of each the newest version: left out, its rows would be gone.
pub fn mark(known: &Landed, etag: &str, run: &str, claim: u64) -> Mark {
    let take = |version_of: &Version| {
        Mark::Take(Box::new(Landed {
            version_of: version_of.clone(),
            standing: Standing::Claimed,
            run: Some(run.to_owned()),
            claim,
            newer: None,
            version: known.version + 1,
            ..known.clone()
        }))
    };
    let own = known.run.as_deref() == Some(run);
    match known.standing {
        Standing::Pending if known.version_of.etag == etag => take(&known.version_of),
        // Done by now, if whoever asks has stalled.
        Standing::Claimed | Standing::Done if own && known.claim == claim => Mark::Taken,
        Standing::Claimed | Standing::Done if own && known.claim < claim => {
            take(known.newer.as_ref().unwrap_or(&known.version_of))
        }
        _ => Mark::Leave,
    }
}

/// The run did it, or could not read it for this reason. `None` if there is nothing to change.
pub fn end(known: &Landed, run: &str, refused: Option<&str>) -> Option<Landed> {
    let own = known.standing == Standing::Claimed && known.run.as_deref() == Some(run);
    let ended = |standing| Landed { standing, version: known.version + 1, ..known.clone() };
    own.then(|| match (refused, &known.newer) {
        (None, _) => ended(Standing::Done),
        // Nothing of the old version was taken, so the newer one is work like any other.
        (Some(_), Some(newer)) => pending(known, newer.clone()),
        (Some(reason), None) => Landed { reason: Some(reason.to_owned()), ..ended(Standing::Refused) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(etag: &str, sequencer: &str) -> Version {
        Version { etag: etag.into(), size: 1, sequencer: sequencer.into(), landed_ms: 5 }
    }

    fn landed(etag: &str, sequencer: &str) -> Landed {
        match land(None, "d", "s3://b-b/k", version(etag, sequencer)) {
            Landing::Pending(landed) => landed,
            other => panic!("{other:?}"),
        }
    }

    fn claimed() -> Landed {
        match mark(&landed("e1", "0055AE"), "e1", "r1", 1) {
            Mark::Take(landed) => *landed,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_event_that_comes_twice_or_late_changes_nothing() {
        let now = landed("e2", "0055AE00B0");
        assert_eq!(land(Some(&now), "d", "s3://b-b/k", version("e2", "0055AE00B0")), Landing::Known);
        assert_eq!(land(Some(&now), "d", "s3://b-b/k", version("e1", "0055AE00A")), Landing::Known);
        // Padded on the right: 0055AE is 0055AE0000, which is before.
        assert_eq!(land(Some(&now), "d", "s3://b-b/k", version("e1", "0055AE")), Landing::Known);
    }

    #[test]
    fn a_newer_version_counts_while_no_run_has_the_object() {
        let Landing::Pending(newer) = land(Some(&landed("e1", "01")), "d", "s3://b-b/k", version("e2", "02")) else {
            panic!()
        };
        assert_eq!((newer.version_of.etag.as_str(), newer.version), ("e2", 2));
        assert_eq!(mark(&newer, "e1", "r1", 1), Mark::Leave, "it was listed with the old version");
    }

    #[test]
    fn a_newer_version_of_what_a_run_has_waits_for_a_person() {
        for known in [claimed(), end(&claimed(), "r1", None).unwrap()] {
            let Landing::Conflict(conflict) = land(Some(&known), "d", "s3://b-b/k", version("e2", "0066")) else {
                panic!()
            };
            assert_eq!((conflict.version_of.etag.as_str(), conflict.standing), ("e1", known.standing));
            assert_eq!(land(Some(&conflict), "d", "s3://b-b/k", version("e2", "0066")), Landing::Known, "said once");
            assert!(mark(&conflict, "e1", "r1", 1) == Mark::Taken, "whoever still marks changes nothing");
            let Mark::Take(again) = mark(&conflict, "e1", "r1", 2) else { panic!() };
            assert_eq!(
                (again.version_of.etag.as_str(), again.standing),
                ("e2", Standing::Claimed),
                "the newest counts"
            );
            assert_eq!((again.newer.as_ref(), mark(&again, "e2", "r1", 2)), (None, Mark::Taken));
            assert_eq!(mark(&again, "e2", "r1", 1), Mark::Leave, "from before");
            assert_eq!(mark(&conflict, "e2", "r2", 2), Mark::Leave, "another run has nothing to do with it");
        }
    }

    #[test]
    fn what_could_not_be_read_is_read_again_when_it_lands_again() {
        let refused = end(&claimed(), "r1", Some("no gzip")).unwrap();
        assert_eq!(refused.standing, Standing::Refused);
        let Landing::Pending(again) = land(Some(&refused), "d", "s3://b-b/k", version("e2", "0066")) else { panic!() };
        assert_eq!((again.standing, again.run, again.reason), (Standing::Pending, None, None));
        // The same bytes, now that it may be read.
        let same = land(Some(&refused), "d", "s3://b-b/k", version("e1", "0066"));
        assert!(matches!(same, Landing::Pending(_)), "{same:?}");
        assert_eq!(land(Some(&refused), "d", "s3://b-b/k", version("e1", "0055AE")), Landing::Known, "its own event");
    }

    #[test]
    fn what_was_written_again_before_it_could_be_read_is_work() {
        let Landing::Conflict(conflict) = land(Some(&claimed()), "d", "s3://b-b/k", version("e2", "0066")) else {
            panic!()
        };
        let ended = end(&conflict, "r1", Some("it is another version")).unwrap();
        assert_eq!((ended.standing, ended.version_of.etag.as_str(), ended.newer), (Standing::Pending, "e2", None));
    }

    #[test]
    fn one_run_has_an_object_and_ends_it_once() {
        let own = claimed();
        assert_eq!(mark(&own, "e1", "r1", 1), Mark::Taken);
        assert_eq!(mark(&own, "e1", "r2", 5), Mark::Leave);
        assert_eq!(end(&own, "r2", None), None);
        let done = end(&own, "r1", None).unwrap();
        assert_eq!(end(&done, "r1", None), None);
        assert_eq!(mark(&done, "e1", "r2", 5), Mark::Leave);
        assert_eq!(mark(&done, "e1", "r1", 1), Mark::Taken, "whoever stalled reopens nothing");
    }
}
