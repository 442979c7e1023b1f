//! A page as a browser shows it, and every address the browser asked for.
//!
//! The one thing to hold in mind: the browser is given a proxy for everything, loopback too, and the proxy is ours. A page that asks for
//! anything outside itself shows up there, whatever the way in which it asks. The browser asks its maker's hosts for things of its own,
//! whatever it is told; those are left out, and that the page does not name them is for a search in its text.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::{command, tool};

/// The browser, as [`tool`] finds it.
pub const BROWSER: &str = "chromium";

/// Domains that the browser asks by itself.
pub const MAKERS: [&str; 4] = [".google.com", ".googleapis.com", ".gvt1.com", ".gstatic.com"];

/// What a browser made of a page.
pub struct Shown {
    /// Width and height in pixels.
    pub size: (u32, u32),
    /// Different colours among the pixels, up to a thousand.
    pub colours: usize,
    /// The share of pixels that have the most frequent colour.
    pub plain: f64,
    /// First lines of the requests that it made, except for files.
    pub requests: Vec<String>,
}

/// Shows `page` in a window of this size and keeps the picture.
pub fn show(page: &Path, picture: &Path, (width, height): (u32, u32), dark: bool) -> Shown {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = proxy.local_addr().unwrap().port();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let taken = requests.clone();
    // Ends with the test program; a browser that has gone asks for nothing.
    std::thread::spawn(move || proxy.incoming().flatten().for_each(|stream| refuse(stream, &taken)));
    let profile = tempfile::tempdir().unwrap();
    let mut browser = Command::new(tool(BROWSER).unwrap());
    browser
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--disable-dev-shm-usage", "--hide-scrollbars", "--proxy-bypass-list=<-loopback>"])
        .arg(format!("--proxy-server=http://127.0.0.1:{port}"))
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--window-size={width},{height}"))
        .arg(format!("--screenshot={}", picture.display()))
        .args(dark.then_some("--blink-settings=preferredColorScheme=0"))
        .arg(format!("file://{}", page.display()))
        .stdin(Stdio::null());
    let said = command::run(browser, &[]);
    assert!(picture.is_file(), "no picture of {}:\n{}", page.display(), said.all());
    let mut requests = std::mem::take(&mut *requests.lock().unwrap());
    requests.retain(|line| !MAKERS.iter().any(|maker| host(line).ends_with(maker)));
    let (size, colours, plain) = look(picture);
    Shown { size, colours, plain, requests }
}

/// The host of a request's first line: `GET http://host/… HTTP/1.1` or `CONNECT host:443 HTTP/1.1`.
fn host(line: &str) -> &str {
    let target = line.split_whitespace().nth(1).unwrap_or_default();
    let target = target.split_once("://").map_or(target, |(_, rest)| rest);
    target.split(['/', ':']).next().unwrap_or_default()
}

/// Notes a request, and answers that there is nothing.
fn refuse(mut stream: TcpStream, requests: &Mutex<Vec<String>>) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
    let mut first = String::new();
    if BufReader::new(&stream).read_line(&mut first).is_ok_and(|read| read > 0) {
        requests.lock().unwrap().push(first.trim_end().to_owned());
    }
    let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
}

/// Size, colours, and share of the most frequent colour.
fn look(picture: &Path) -> ((u32, u32), usize, f64) {
    let mut reader =
        png::Decoder::new(BufReader::new(std::fs::File::open(picture).unwrap())).read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let frame = reader.next_frame(&mut bytes).unwrap();
    let mut counts = std::collections::HashMap::new();
    let pixels = bytes[..frame.buffer_size()].chunks_exact(frame.color_type.samples());
    let all = pixels.len();
    for pixel in pixels {
        *counts.entry(pixel).or_insert(0_usize) += 1;
    }
    let most = counts.values().max().copied().unwrap_or(0);
    ((frame.width, frame.height), counts.len().min(1000), most as f64 / all as f64)
}
