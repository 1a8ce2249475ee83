//! JSON answers, within the budget of memory for answers that wait for their clients.

use std::future::{Ready, ready};
use std::net::IpAddr;

use actix_web::dev::Payload;
use actix_web::web::Bytes;
use actix_web::{FromRequest, HttpRequest, HttpResponse, HttpResponseBuilder};
use serde::Serialize;

use super::problem::failed;
use crate::store::ItemFields;
use actix_vitals::memory::{AnswerMemory, AnswerMemoryExhausted, Reservation, client_of};
use actix_vitals::problem::Problem;

/// The bytes of an item's JSON beside its texts: names of members, id, time.
const AROUND_ITEM: usize = 128;

/// Makes the JSON answers to one request.
#[derive(Debug, Clone)]
pub(super) struct Answers {
    memory: AnswerMemory,
    client: Option<IpAddr>,
}

impl FromRequest for Answers {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let memory = request.app_data::<AnswerMemory>().cloned();
        ready(memory.ok_or_else(failed).map(|memory| Self {
            memory,
            client: client_of(request),
        }))
    }
}

impl Answers {
    /// Keeps room for an item with these fields, before it is written.
    pub(super) fn reserve_for(
        &self,
        fields: &ItemFields,
    ) -> Result<Reservation, AnswerMemoryExhausted> {
        let message = fields.message.as_ref().map_or(0, String::len);
        let bytes = AROUND_ITEM + fields.name.len() + fields.email.len() + message;
        self.memory.reserve(self.client, bytes)
    }

    /// The body as bytes that are counted until the client has taken them.
    pub(super) fn hold(&self, body: Vec<u8>) -> Result<Bytes, AnswerMemoryExhausted> {
        let reservation = self.memory.reserve(self.client, body.len())?;
        Ok(reservation.hold(body))
    }

    /// The same without asking, for a request that has done its work.
    pub(super) fn charge(&self, body: Vec<u8>) -> Bytes {
        self.memory.charge(self.client, body)
    }
}

/// An item as JSON. Texts and numbers always serialise.
pub(super) fn json(item: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(item).unwrap_or_default()
}

/// An answer with a body of JSON.
pub(super) fn respond(answer: &mut HttpResponseBuilder, body: Bytes) -> HttpResponse {
    answer.content_type("application/json").body(body)
}
