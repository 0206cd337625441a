//! A window as bytes: from invocation to invocation, and from shard to shard.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::kept::{Damaged, Kept};
use crate::plan::Plan;
use crate::window::{Counts, Group, Scalar, Window};

/// A group's bytes, its values, and what is kept of it.
type StoredGroup = (Vec<u8>, Vec<Scalar>, Vec<Vec<u8>>);

#[derive(Serialize, Deserialize)]
struct Stored {
    shape: u32,
    span: Option<(String, String)>,
    counts: Counts,
    incomplete: bool,
    groups: Vec<StoredGroup>,
    others: Option<Vec<Vec<u8>>>,
}

impl Window {
    /// For [`Window::from_bytes`] of the same plan.
    ///
    /// # Errors
    /// For a defect of ours.
    pub fn bytes(&mut self, plan: &Plan) -> Result<Vec<u8>, Damaged> {
        let bytes = |kept: &mut Vec<Kept>| kept.iter_mut().map(Kept::serialize).collect::<Vec<_>>();
        let groups = self.groups.iter_mut();
        let mut groups: Vec<_> =
            groups.map(|(key, group)| (key.clone(), group.values.clone(), bytes(&mut group.kept))).collect();
        groups.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let stored = Stored {
            shape: plan.shape,
            span: self.span.clone(),
            counts: self.counts,
            incomplete: self.incomplete,
            groups,
            others: self.others.as_mut().map(bytes),
        };
        postcard::to_allocvec(&stored).map_err(|error| Damaged(error.to_string()))
    }

    /// What [`Window::bytes`] gave.
    ///
    /// # Errors
    /// If it is something else, or another plan's: of another version of the contract, or of ours.
    pub fn from_bytes(plan: &Plan, bytes: &[u8]) -> Result<Self, Damaged> {
        let stored: Stored = postcard::from_bytes(bytes).map_err(|error| Damaged(error.to_string()))?;
        if stored.shape != plan.shape {
            return Err(Damaged("the contract was another".to_owned()));
        }
        let kept = |all: Vec<Vec<u8>>| {
            if all.len() != plan.inputs.len() {
                return Err(Damaged("a group lacks something".to_owned()));
            }
            plan.inputs.iter().zip(all).map(|(input, bytes)| Kept::from_bytes(input, &bytes)).collect()
        };
        let groups = stored.groups.into_iter().map(|(key, values, all)| Ok((key, Group { values, kept: kept(all)? })));
        Ok(Self {
            span: stored.span,
            counts: stored.counts,
            incomplete: stored.incomplete,
            groups: groups.collect::<Result<HashMap<_, _>, Damaged>>()?,
            others: stored.others.map(kept).transpose()?,
        })
    }

    /// As text, for [`Window::from_text`].
    ///
    /// # Errors
    /// For a defect of ours.
    pub fn text(&mut self, plan: &Plan) -> Result<String, Damaged> {
        Ok(STANDARD.encode(self.bytes(plan)?))
    }

    /// What [`Window::text`] gave.
    ///
    /// # Errors
    /// As [`Window::from_bytes`].
    pub fn from_text(plan: &Plan, text: &str) -> Result<Self, Damaged> {
        let bytes = STANDARD.decode(text).map_err(|error| Damaged(error.to_string()))?;
        Self::from_bytes(plan, &bytes)
    }
}
