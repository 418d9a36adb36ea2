//! An endpoint: its path, its handler, and what the OpenAPI document (3.1) says about it.
//!
//! Must not know which endpoints there are.

use axum::{handler::Handler, routing::MethodRouter};
use kvm_compose::{api::ErrorBody, error::Code};
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Value, json};

use crate::app::App;

type SchemaOf = fn(&mut SchemaGenerator) -> Value;

/// What is sent one way.
enum Content {
    Json(SchemaOf),
    Bytes(&'static str),
}

/// A method on a path.
pub struct Endpoint {
    /// `get`, `post`, …
    pub method: &'static str,
    /// The path, parameters in braces.
    pub path: String,
    /// What it does, in a few words.
    pub summary: &'static str,
    /// The handler.
    pub handler: MethodRouter<App>,
    query: Vec<(&'static str, &'static str)>,
    takes: Vec<Content>,
    answers: Vec<(u16, Option<Content>)>,
}

macro_rules! methods {
    ($($(#[$doc:meta])* $method:ident),*) => { $(
        $(#[$doc])*
        pub fn $method<H: Handler<T, App>, T: 'static>(path: &str, summary: &'static str, handler: H) -> Endpoint {
            Endpoint {
                method: stringify!($method),
                path: path.to_string(),
                summary,
                handler: axum::routing::$method(handler),
                query: Vec::new(),
                takes: Vec::new(),
                answers: Vec::new(),
            }
        }
    )* };
}

methods! {
    /// A GET endpoint.
    get,
    /// A POST endpoint.
    post,
    /// A PUT endpoint.
    put,
    /// A DELETE endpoint.
    delete
}

impl Endpoint {
    /// It reads this from the query.
    pub fn query(mut self, key: &'static str, what: &'static str) -> Self {
        self.query.push((key, what));
        self
    }

    /// It takes a JSON body.
    pub fn takes<T: JsonSchema>(mut self) -> Self {
        self.takes.push(Content::Json(schema_of::<T>));
        self
    }

    /// It takes another body.
    pub fn takes_bytes(mut self, kind: &'static str) -> Self {
        self.takes.push(Content::Bytes(kind));
        self
    }

    /// It answers JSON.
    pub fn answers<T: JsonSchema>(mut self, status: u16) -> Self {
        self.answers.push((status, Some(Content::Json(schema_of::<T>))));
        self
    }

    /// It answers something else.
    pub fn answers_bytes(mut self, status: u16, kind: &'static str) -> Self {
        self.answers.push((status, Some(Content::Bytes(kind))));
        self
    }

    /// It answers without a body.
    pub fn answers_nothing(mut self, status: u16) -> Self {
        self.answers.push((status, None));
        self
    }

    /// The parameters in the path.
    pub fn path_parameters(&self) -> Vec<&str> {
        self.path.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect()
    }

    /// The keys it reads from the query, each with what it means.
    pub fn query_parameters(&self) -> &[(&'static str, &'static str)] {
        &self.query
    }

    fn describe(&self, generator: &mut SchemaGenerator) -> Value {
        let in_path = self.path_parameters().into_iter().map(|name| {
            let format = if name == "uuid" { json!({ "type": "string", "format": "uuid" }) } else { json!({ "type": "string" }) };
            json!({ "name": name, "in": "path", "required": true, "schema": format })
        });
        let in_query = self.query.iter().map(
            |(name, what)| json!({ "name": name, "in": "query", "required": false, "description": what, "schema": { "type": "string" } }),
        );
        let parameters: Vec<Value> = in_path.chain(in_query).collect();
        let mut responses = serde_json::Map::new();
        for (status, content) in &self.answers {
            let response = responses.entry(status.to_string()).or_insert_with(|| json!({ "description": self.summary }));
            if let Some(content) = content {
                let (kind, body) = body(content, generator);
                response["content"][kind] = body;
            }
        }
        responses.insert("default".to_string(), json!({ "$ref": "#/components/responses/Problem" }));
        let mut operation = json!({ "summary": self.summary, "parameters": parameters, "responses": responses });
        if !self.takes.is_empty() {
            let contents: serde_json::Map<_, _> =
                self.takes.iter().map(|content| body(content, generator)).map(|(kind, body)| (kind.to_string(), body)).collect();
            operation["requestBody"] = json!({ "required": true, "content": contents });
        }
        operation
    }
}

fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

fn body(content: &Content, generator: &mut SchemaGenerator) -> (&'static str, Value) {
    match content {
        Content::Json(schema) => ("application/json", json!({ "schema": schema(generator) })),
        Content::Bytes(kind) => (kind, json!({ "schema": { "type": "string", "format": "binary" } })),
    }
}

/// The document over these endpoints.
pub fn document(endpoints: &[Endpoint]) -> Value {
    let mut generator =
        SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = "/components/schemas".into()).into_generator();
    let mut paths = serde_json::Map::new();
    for endpoint in endpoints {
        let operation = endpoint.describe(&mut generator);
        let path = paths.entry(endpoint.path.clone()).or_insert_with(|| json!({}));
        path[endpoint.method] = operation;
    }
    let error = schema_of::<ErrorBody>(&mut generator);
    let codes: Vec<_> = Code::ALL
        .iter()
        .map(|code| json!({ "code": code.name(), "number": code.number(), "status": code.http_status(), "exit_status": code.exit_status(), "meaning": code.meaning().trim() }))
        .collect();
    let schemas = generator.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "TestbedOS",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Testbeds on real virtual machines. Through the Unix socket no credential is needed; over TCP, the token.",
            "license": { "name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT" },
        },
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {
                "Problem": {
                    "description": "Any status that is not a success",
                    "content": { "application/json": { "schema": error } },
                },
            },
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
        "x-error-codes": codes,
    })
}
