//! The error type that user code may return: anything that is an error.

/// Any error. Operators are written by users, who bring their own error types; the engine adds operator, task, attempt
/// and rows around it and keeps it as the source.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What the calls of an operator return.
pub type OperatorResult<T = ()> = Result<T, BoxError>;
