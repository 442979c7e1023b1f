//! The first user process. All of it is in the program `init`.
#![no_std]
