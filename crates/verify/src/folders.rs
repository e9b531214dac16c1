//! One loop over the folders of a kind of fixture.

use univi::Result;

use crate::{Fixtures, Report, folders_with};

/// Runs `check` on every folder called `kind` that has `file`; an error that it returns is a failed
/// case of that kind, not the end of the run.
pub(crate) async fn check_folders(
    fixtures: &dyn Fixtures,
    kind: &str,
    file: &str,
    check: impl AsyncFn(&str, &mut Report) -> Result<()>,
) -> Report {
    let mut report = Report::default();
    for root in folders_with(fixtures, &format!("{kind}/{file}")) {
        let folder = format!("{root}{kind}/");
        if let Err(error) = check(&folder, &mut report).await {
            report.failed(kind, &error);
        }
    }
    report
}
