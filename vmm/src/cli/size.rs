//! Sizes as people write them: `64M` is 64 MiB, as everywhere around virtual machines.

/// Bytes of `text`: a number with nothing, K, M, G or T behind it (powers of 1024; `KiB` and `KB` are read alike).
pub fn parse(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text.get(digits.len()..).unwrap_or("").to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(format!("{text:?} is not a size; write a number and K, M, G or T, as in 64M")),
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(1 << shift))
        .ok_or_else(|| format!("{text:?} is not a size; write a number and K, M, G or T, as in 64M"))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [("4096", 4096), ("64M", 64 << 20), ("1GiB", 1 << 30), ("16k", 16 << 10)] {
            assert_eq!(parse(text), Ok(bytes));
        }
        for text in ["", "M", "12Q", "1.5G", "-1", "99999999T"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
