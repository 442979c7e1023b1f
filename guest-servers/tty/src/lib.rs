//! The terminal: a character device over the serial console. All of it is in the program `tty`.
#![no_std]
