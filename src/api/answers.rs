//! JSON answers whose bodies are reserved in the answer memory.

use std::{
    future::{Ready, ready},
    net::IpAddr,
};

use actix_vitals::{
    memory::{AnswerMemory, AnswerMemoryExhausted, Reservation, client_of},
    problem::Problem,
};
use actix_web::{
    FromRequest, HttpRequest, HttpResponse, HttpResponseBuilder, dev::Payload, web::Bytes,
};

use super::{item_json::AROUND_ITEM, problem::failed};
use crate::store::ItemFields;

/// Holds the bodies of answers to one request in the answer memory, on behalf of its client.
#[derive(Debug, Clone)]
pub(super) struct JsonResponder {
    memory: AnswerMemory,
    client: Option<IpAddr>,
}

impl FromRequest for JsonResponder {
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

impl JsonResponder {
    /// Reserves memory for the JSON of an item with these fields, before the item is written.
    pub(super) fn reserve_for(
        &self,
        fields: &ItemFields,
    ) -> Result<Reservation, AnswerMemoryExhausted> {
        let message = fields.message.as_ref().map_or(0, String::len);
        let bytes = AROUND_ITEM + fields.name.len() + fields.email.len() + message;
        self.memory.reserve(self.client, bytes)
    }

    /// Wraps a body so that its bytes are reserved until the client has read them. Fails if the memory is exhausted.
    pub(super) fn hold(&self, body: Vec<u8>) -> Result<Bytes, AnswerMemoryExhausted> {
        let reservation = self.memory.reserve(self.client, body.len())?;
        Ok(reservation.hold(body))
    }

    /// The same for a request whose work is done: reserves beyond the limit if need be.
    pub(super) fn charge(&self, body: Vec<u8>) -> Bytes {
        self.memory.charge(self.client, body)
    }
}

/// Completes an answer with a JSON body.
pub(super) fn respond(answer: &mut HttpResponseBuilder, body: Bytes) -> HttpResponse {
    answer.content_type("application/json").body(body)
}
