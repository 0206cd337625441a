//! `weir detect`.

use std::sync::Arc;

use clap::Args;
use tokio::runtime::Handle;
use weir_command::Location;
use weir_formats::{FileFormat, FileInput, Input, Wrapping, sniff};
use weir_lake::{Lake, S3Input, S3Lake};

use crate::out::say;
use crate::{Cli, Stack, Stop};

/// Say what a file is.
#[derive(Args)]
pub(crate) struct Detect {
    /// A path, or s3://bucket/key.
    path: String,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl Detect {
    pub(crate) async fn run(&self, cli: &Cli) -> Result<(), Stop> {
        let input: Arc<dyn Input> = if self.path.starts_with("s3://") {
            let at = Location::parse(&self.path).map_err(|error| Stop(2, error.to_string()))?;
            let lake: Arc<dyn Lake> = Arc::new(S3Lake::new(&Stack::open(cli).await?.aws));
            let info = lake.head(&at).await.map_err(Stop::aws)?;
            Arc::new(S3Input::new(lake, info, Handle::current()))
        } else {
            Arc::new(FileInput::open(&self.path).map_err(|error| Stop(1, format!("{}: {error}", self.path)))?)
        };
        let sniffed =
            tokio::task::spawn_blocking(move || sniff(&input)).await.map_err(|error| Stop(1, error.to_string()))?;
        let sniffed = sniffed.map_err(|error| Stop(1, error.to_string()))?;
        if self.json {
            let columns: Vec<_> = sniffed
                .columns
                .0
                .iter()
                .map(|(name, kind)| serde_json::json!({"name": name, "type": kind.to_arrow().to_string()}))
                .collect();
            let found = serde_json::json!({
                "format": sniffed.format.to_string(), "compression": sniffed.wrapping.to_string(),
                "confidence": sniffed.confidence.to_string(), "saw": sniffed.saw, "columns": columns,
            });
            say!("{found}");
        } else {
            let wrapping = match sniffed.wrapping {
                Wrapping::None => String::new(),
                wrapping => format!(" in {wrapping}"),
            };
            say!("{}{wrapping} ({}): {}", sniffed.format, sniffed.confidence, sniffed.saw);
            if !sniffed.columns.0.is_empty() {
                say!("{}", sniffed.columns.describe());
            }
        }
        if sniffed.format == FileFormat::Unknown {
            return Err(Stop(1, format!("{} is none of the formats that can be read", self.path)));
        }
        Ok(())
    }
}
