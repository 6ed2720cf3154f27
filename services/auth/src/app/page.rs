//! Pages of lists.

use weir_types::PageToken;

use crate::domain::Invalid;
use crate::error::Result;

/// Which page is wanted.
#[derive(Debug, Clone)]
pub(crate) struct PageRequest {
    size: u32,
    token: String,
}

impl PageRequest {
    const DEFAULT_SIZE: u32 = 50;
    const MAX_SIZE: u32 = 1000;

    /// As a request says it: 0 is the default size, an empty token the first page.
    ///
    /// # Errors
    /// When the size is negative.
    pub(crate) fn new(size: i32, token: String) -> Result<Self, Invalid> {
        let size = weir_types::page_size(size, Self::DEFAULT_SIZE, Self::MAX_SIZE)
            .map_err(|error| Invalid::field("page_size", error))?;
        Ok(Self { size, token })
    }

    /// Where the page begins; `list` says which list it is.
    pub(super) fn after(&self, list: &str) -> Result<Option<String>> {
        if self.token.is_empty() { Ok(None) } else { Ok(Some(PageToken::decode(list, &self.token)?)) }
    }

    /// One more than the page has, to know whether there is a next page.
    pub(super) fn limit(&self) -> i64 {
        i64::from(self.size) + 1
    }

    /// The page from up to [`limit`](Self::limit) items.
    pub(super) fn page<T>(&self, list: &str, mut items: Vec<T>, cursor: impl Fn(&T) -> String) -> Page<T> {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        let more = items.len() > size;
        items.truncate(size);
        let next = items.last().filter(|_| more).map(|last| PageToken::encode(list, &cursor(last)));
        Page { items, next }
    }
}

/// A part of a list.
#[derive(Debug)]
pub(crate) struct Page<T> {
    /// The items.
    pub(crate) items: Vec<T>,
    /// The token of the next page, if there is one.
    pub(crate) next: Option<String>,
}
