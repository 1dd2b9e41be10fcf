//! In the place of `keyed.rs` without the feature `auth`: no listener has a key.

use std::os::fd::BorrowedFd;

use super::Connection;
use super::address::Address;
use crate::Result;

/// There is none.
#[derive(Debug)]
pub(super) enum Keyed {}

impl Keyed {
    pub(super) fn accept(
        &self,
        _: BorrowedFd<'_>,
        _: impl Fn() -> Result<(Connection, Option<Address>)>,
    ) -> Result<(Result<Connection>, Option<Address>)> {
        match *self {}
    }

    pub(super) fn close(&self) {
        match *self {}
    }

    pub(super) fn news(&self) -> Option<BorrowedFd<'_>> {
        match *self {}
    }
}
