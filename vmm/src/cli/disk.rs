//! The value of `--disk`: `PATH[,readonly=on|off][,overlay=on|off][,serial=NAME][,engine=uring|threads|auto]`.

use crate::vm::config::Disk;

/// A `--disk` that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// Nothing before the first comma.
    #[error(
        "--disk {0:?} names no image; write --disk PATH[,readonly=on][,serial=NAME][,engine=uring|threads]"
    )]
    NoPath(String),
    /// A word that is no option.
    #[error(
        "--disk {disk:?}: {option:?} is no option; there are readonly=on|off, overlay=on|off, serial=NAME and engine=uring|threads|auto (a path cannot contain a comma)"
    )]
    Unknown {
        /// The whole value.
        disk: String,
        /// The word.
        option: String,
    },
    /// An option with a value it cannot have.
    #[error("--disk {disk:?}: {reason}")]
    BadValue {
        /// The whole value.
        disk: String,
        /// What is wrong.
        reason: String,
    },
    /// An option twice.
    #[error("--disk {disk:?}: {option:?} is given twice")]
    Twice {
        /// The whole value.
        disk: String,
        /// The option.
        option: String,
    },
}

/// Reads the value of one `--disk`.
pub fn parse(text: &str) -> Result<Disk, DiskError> {
    let mut words = text.split(',');
    let path = words.next().filter(|p| !p.is_empty()).ok_or_else(|| DiskError::NoPath(text.into()))?;
    let mut disk = Disk::new(path);
    let mut seen = Vec::new();
    let bad = |reason: String| DiskError::BadValue { disk: text.into(), reason };
    for word in words {
        let (key, value) = word
            .split_once('=')
            .ok_or_else(|| DiskError::Unknown { disk: text.into(), option: word.into() })?;
        if seen.contains(&key) {
            return Err(DiskError::Twice { disk: text.into(), option: key.into() });
        }
        seen.push(key);
        let on = || match value {
            "on" => Ok(true),
            "off" => Ok(false),
            _ => Err(bad(format!("{key}={value:?}; write {key}=on or {key}=off"))),
        };
        match key {
            "readonly" => disk.readonly = on()?,
            "overlay" => disk.overlay = on()?,
            "serial" => disk.serial = value.parse().map_err(|e| bad(format!("{e}")))?,
            "engine" => disk.engine = value.parse().map_err(|e| bad(format!("{e}")))?,
            _ => return Err(DiskError::Unknown { disk: text.into(), option: word.into() }),
        }
    }
    Ok(disk)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use refault_devices::virtio::blk::engine::EngineChoice;

    use super::*;

    #[test]
    fn options_in_any_order() {
        let disk = parse("a/b.img,serial=ROOT,readonly=on,engine=threads").unwrap();
        assert_eq!(disk.path, PathBuf::from("a/b.img"));
        assert!(disk.readonly);
        assert_eq!(disk.engine, EngineChoice::Threads);
        assert_eq!(disk.serial, "ROOT".parse().unwrap());
        assert!(!parse("x.img").unwrap().readonly);
        assert!(!disk.overlay && parse("x.img,overlay=on").unwrap().overlay);
    }

    #[test]
    fn mistakes_are_named() {
        assert!(matches!(parse(",readonly=on"), Err(DiskError::NoPath(_))));
        assert!(matches!(parse("x,ro"), Err(DiskError::Unknown { option, .. }) if option == "ro"));
        assert!(
            matches!(parse("x,cache=on"), Err(DiskError::Unknown { option, .. }) if option == "cache=on")
        );
        assert!(matches!(parse("x,readonly=yes"), Err(DiskError::BadValue { .. })));
        assert!(matches!(parse("x,engine=aio"), Err(DiskError::BadValue { .. })));
        assert!(matches!(parse("x,serial=aaaaaaaaaabbbbbbbbbbcc"), Err(DiskError::BadValue { .. })));
        assert!(matches!(parse("x,readonly=on,readonly=off"), Err(DiskError::Twice { .. })));
    }
}
