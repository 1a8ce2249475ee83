//! From the labels of an answered request to the handles it is recorded through: a cache that each worker thread has
//! for itself, so that a known label set costs one hash and one comparison, and neither a lock nor an allocation.

use std::{cell::RefCell, hash::BuildHasher, rc::Rc, sync::Arc};

use actix_web::http::StatusCode;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::families::Families;
use crate::registry::{Counter, Histogram};

/// The handles of one `(method, endpoint, http_status)`.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) method: &'static str,
    pub(super) endpoint: Box<str>,
    pub(super) status: StatusCode,
    pub(super) requests: Arc<Counter>,
    pub(super) duration: Arc<Histogram>,
    pub(super) request_size: Arc<Histogram>,
    pub(super) response_size: Arc<Histogram>,
}

/// One worker's cache of [`Series`].
///
/// It is bounded by the families' series budgets: a label set that overflowed is not remembered, since each of its
/// requests must count as an overflow anew.
#[derive(Debug, Default)]
pub(super) struct SeriesCache {
    table: RefCell<HashTable<Rc<Series>>>,
    hasher: DefaultHashBuilder,
}

impl SeriesCache {
    /// The series of a label set: from the cache, or from the families.
    pub(super) fn resolve(
        &self,
        families: &Families,
        method: &'static str,
        endpoint: &str,
        status: StatusCode,
    ) -> Rc<Series> {
        let hash = self.hash(method, endpoint, status);
        let mut table = self.table.borrow_mut();
        let known = table.find(hash, |series| {
            series.status == status && series.method == method && *series.endpoint == *endpoint
        });
        if let Some(series) = known {
            return Rc::clone(series);
        }
        let requests = families
            .requests
            .try_series([method, endpoint, status.as_str()]);
        let duration = families
            .duration
            .try_series([method, endpoint, status.as_str()]);
        let request_size = families.request_size.try_series([method, endpoint]);
        let response_size = families.response_size.try_series([method, endpoint]);
        let is_known = requests.is_own()
            && duration.is_own()
            && request_size.is_own()
            && response_size.is_own();
        let series = Rc::new(Series {
            method,
            endpoint: endpoint.into(),
            status,
            requests: requests.into_series(),
            duration: duration.into_series(),
            request_size: request_size.into_series(),
            response_size: response_size.into_series(),
        });
        if is_known {
            table.insert_unique(hash, Rc::clone(&series), |series| {
                self.hash(series.method, &series.endpoint, series.status)
            });
        }
        series
    }

    fn hash(&self, method: &'static str, endpoint: &str, status: StatusCode) -> u64 {
        // A method's first bytes and the status fit beside the endpoint's own hash.
        self.hasher.hash_one((method, status.as_u16(), endpoint))
    }
}
