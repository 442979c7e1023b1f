//! Text for a page: escaping, and quantities as people write them.

use std::fmt::{self, Display, Write as _};

/// A text from elsewhere, safe between tags and in quoted attributes.
#[derive(Debug, Clone, Copy)]
pub struct Escaped<T>(pub T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaper(f), "{}", self.0)
    }
}

struct Escaper<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for Escaper<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '&' => self.0.write_str("&amp;")?,
                '<' => self.0.write_str("&lt;")?,
                '>' => self.0.write_str("&gt;")?,
                '"' => self.0.write_str("&quot;")?,
                '\'' => self.0.write_str("&#39;")?,
                '\n' | '\t' => self.0.write_char(c)?,
                // Controls have no meaning in HTML, and marks that turn the direction of writing could show a rule as another one.
                c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                    write!(self.0, "\u{fffd}{:x}", u32::from(c))?;
                }
                c => self.0.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Adds to a page. A string takes everything.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => {{
        use std::fmt::Write as _;
        let _ = write!($out, $($arg)*);
    }};
}
pub(crate) use put;

/// A number with a thin space at every third digit.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// A time with three significant digits and its unit.
pub fn time(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{} µs", three(ns as f64 / 1e3)),
        1_000_000..1_000_000_000 => format!("{} ms", three(ns as f64 / 1e6)),
        _ => format!("{} s", three(ns as f64 / 1e9)),
    }
}

/// A number with three significant digits; whole ones from a hundred up.
pub fn three(number: f64) -> String {
    match number {
        n if n < 9.995 => format!("{n:.2}"),
        n if n < 99.95 => format!("{n:.1}"),
        n => count(n.round() as u64),
    }
}

/// A number and its noun.
pub fn several(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_means_something_in_html_gets_through() {
        let hostile = "<script>alert('x')</script>\" onload=\"&\u{0}\u{202e}";
        let text = Escaped(hostile).to_string();
        assert_eq!(
            text,
            "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot; onload=&quot;&amp;\u{fffd}0\u{fffd}202e"
        );
        assert_eq!(Escaped("größer →\n").to_string(), "größer →\n");
    }

    #[test]
    fn quantities() {
        assert_eq!([count(0), count(999), count(1234567)], ["0", "999", "1\u{202f}234\u{202f}567"]);
        assert_eq!([time(0), time(999), time(1000), time(12_345)], ["0 ns", "999 ns", "1.00 µs", "12.3 µs"]);
        assert_eq!([time(999_400), time(2_000_000), time(61_000_000_000)], ["999 µs", "2.00 ms", "61.0 s"]);
        assert_eq!([three(9.996), three(99.96), three(1234.5)], ["10.0", "100", "1\u{202f}235"]);
        assert_eq!([several(1, "run", "runs"), several(0, "run", "runs")], ["1 run", "0 runs"]);
    }
}
