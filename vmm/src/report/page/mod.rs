//! The report as one HTML file.
//!
//! | module | idea |
//! |---|---|
//! | [`text`] | escaping, and quantities as people write them |
//! | [`sections`] | head, verdicts, failures, rates |
//! | [`matrix`] | the coverage matrix as a heat map |
//! | [`charts`] | histograms over a logarithmic axis |
//! | [`timeline`] | one retry, attempt by attempt |
//!
//! The one thing to hold in mind: rules, reasons and names come from files and may hold anything, so nothing of them reaches the page
//! but through [`text::Escaped`]. The page has no script, loads nothing, and says so to the browser (a content security policy), so
//! that even a mistake in escaping could fetch nothing.

pub mod charts;
pub mod matrix;
pub mod sections;
pub mod text;
pub mod timeline;

use super::numbers::Document;

const STYLE: &str = include_str!("style.css");

/// The whole page.
pub fn render(document: &Document) -> String {
    let mut body = String::new();
    let parts: [fn(&mut String, &Document); 8] = [
        sections::head,
        sections::verdicts,
        sections::failures,
        matrix::section,
        charts::section,
        timeline::section,
        sections::rates,
        sections::foot,
    ];
    parts.iter().for_each(|part| part(&mut body, document));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>Refault: campaign report</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
}

#[cfg(test)]
mod tests;
