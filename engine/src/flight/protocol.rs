//! Messages of Flight about sessions, which the Arrow crate does not have yet (Flight.proto).

use std::collections::HashMap;

/// A value of an option.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SessionOptionValue {
    /// None of them means unset.
    #[prost(oneof = "OptionValue", tags = "1, 2, 3, 4, 5")]
    pub option_value: Option<OptionValue>,
}

/// What a value can be.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum OptionValue {
    /// A text.
    #[prost(string, tag = "1")]
    Text(String),
    /// A truth value.
    #[prost(bool, tag = "2")]
    Bool(bool),
    /// A whole number.
    #[prost(sfixed64, tag = "3")]
    Int(i64),
    /// A number.
    #[prost(double, tag = "4")]
    Double(f64),
    /// Texts.
    #[prost(message, tag = "5")]
    List(TextList),
}

/// A list of texts.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TextList {
    /// The texts.
    #[prost(string, repeated, tag = "1")]
    pub values: Vec<String>,
}

/// Asks to set options.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetSessionOptionsRequest {
    /// By name.
    #[prost(map = "string, message", tag = "1")]
    pub session_options: HashMap<String, SessionOptionValue>,
}

/// Says which options could not be set.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetSessionOptionsResult {
    /// By name.
    #[prost(map = "string, message", tag = "1")]
    pub errors: HashMap<String, OptionError>,
}

/// Why an option could not be set.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OptionError {
    /// One of the constants below.
    #[prost(int32, tag = "1")]
    pub value: i32,
}

/// There is no option of the name.
pub const INVALID_NAME: i32 = 1;
/// The option cannot have the value.
pub const INVALID_VALUE: i32 = 2;

/// The options as they are.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GetSessionOptionsResult {
    /// By name.
    #[prost(map = "string, message", tag = "1")]
    pub session_options: HashMap<String, SessionOptionValue>,
}

/// Says whether the session was closed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CloseSessionResult {
    /// 1 is closed.
    #[prost(int32, tag = "1")]
    pub status: i32,
}

/// The session is closed.
pub const CLOSED: i32 = 1;
