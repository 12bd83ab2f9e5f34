//! The attribute macros of Mobula: [`macro@remote`] for functions, [`macro@operator`] for operators with state,
//! [`macro@source`] for sources and [`macro@actor`] for actors that are spawned on any node.
//!
//! All put an entry into the registry of this binary at link time, so that any node that runs the same binary can
//! build the operator or source from its name and its parameters. They do not look at types: what a parameter must be able to do
//! is checked by the compiler in the code they write. Start with `remote.rs` or `operator.rs`; `args.rs` holds what
//! stands in the attribute itself.

mod actor;
mod args;
mod named;
mod operator;
mod remote;
mod source;
mod task;

use proc_macro::TokenStream;

/// Makes a function one that runs somewhere: as a task, and from batch to batch also as an operator, by its name.
///
/// The function stays as it is and can be called. Beside it stands a type of the same name with `task`, which takes the
/// arguments, each as a value or as a reference to one, and gives what is submitted:
///
/// ```text
/// #[mobula::remote]
/// fn predict(model: &Model, shard: String) -> Result<u64, Error> {
///     // ..
/// }
///
/// let model = session.put(Model::load()?)?;
/// let rows = session.submit(predict::task(&model, "part-1.parquet".to_owned()))?;
/// println!("{}", session.get(&rows)?);
/// ```
///
/// A parameter `A` gets its own copy (`A: Clone`), `&A`, `&str` and `&[A]` share the stored value. A last parameter
/// `out: &mut Results<R>` makes it a stream of `R`; the function then returns `Result<(), E>`.
///
/// Where the function goes from `RecordBatch` to `RecordBatch`, there is also `map`, which takes the parameters behind the
/// batch and gives the operator for `map_batches`:
///
/// ```text
/// #[mobula::remote]
/// fn score(batch: RecordBatch, threshold: f64) -> Result<RecordBatch, ArrowError> {
///     // ..
/// }
///
/// let scored = ds.map_batches(score::map(0.5))?;
/// ```
///
/// Parameters are `Serialize + DeserializeOwned + Send + Sync`; the error is anything that is an error. Refused, with the
/// place: `async`, methods, generics, `unsafe`.
/// Options: `crate = path` where Mobula is not at `::mobula`, `name = "…"` for another registered name.
#[proc_macro_attribute]
pub fn remote(attr: TokenStream, item: TokenStream) -> TokenStream {
    remote::expand(attr.into(), item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes a type that implements `Operator` an operator that travels by name: its fields are the parameters.
///
/// ```text
/// #[derive(Serialize, Deserialize)]
/// struct Embed { dimensions: usize }
///
/// #[mobula::operator]
/// impl Operator for Embed {
///     fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult { .. }
/// }
///
/// let embedded = ds.map_batches(Embed { dimensions: 64 })?;
/// ```
///
/// Each worker gets its own value, decoded from the parameters; mark what `open` makes with `#[serde(skip)]`.
/// The type is `Serialize + DeserializeOwned` and not generic.
/// Options: `crate = path` where Mobula is not at `::mobula`, `name = "…"` for another registered name.
#[proc_macro_attribute]
pub fn operator(attr: TokenStream, item: TokenStream) -> TokenStream {
    operator::expand(attr.into(), item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes a type that implements `Source` a source that travels by name: its fields are the parameters.
///
/// ```text
/// #[derive(Serialize, Deserialize)]
/// struct Rows { every: u64 }
///
/// #[mobula::source(name = "mine/rows@1")]
/// impl Source for Rows {
///     fn open(&self, split: &Split, rows: Range<Rows>, ..) -> OperatorResult<Box<dyn SplitReader>> { .. }
/// }
///
/// let spec = Rows { every: 2 }.into_source();
/// ```
///
/// Each node builds one value from the parameters when the job begins; mark what only helps to read, such as a cache,
/// with `#[serde(skip)]`. The type is `Serialize + DeserializeOwned` and not generic.
/// Options: `crate = path` where Mobula is not at `::mobula`, `name = "…"` for another registered name.
#[proc_macro_attribute]
pub fn source(attr: TokenStream, item: TokenStream) -> TokenStream {
    source::expand(attr.into(), item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes an actix actor one that can be spawned on any node: its fields are its start state.
///
/// ```text
/// #[derive(Serialize, Deserialize)]
/// struct Counter { count: u64 }
///
/// #[mobula::actor(name = "counter@1", messages(Add))]
/// impl Actor for Counter { type Context = Context<Self>; }
///
/// #[derive(Message, Serialize, Deserialize)]
/// #[rtype(result = "u64")]
/// struct Add(u64);
///
/// impl Handler<Add> for Counter { .. }
///
/// let counter = session.spawn(Counter { count: 0 }).start()?;
/// counter.ask(Add(2))?;
/// ```
///
/// Each incarnation is a fresh value, decoded from the start state, or (with `snapshot`) from the last snapshot. Messages
/// and their results are serde too; they are those that `messages` lists, the handlers may be synchronous or not.
/// The type is `Serialize + DeserializeOwned` and not generic, its context is `actix::Context<Self>`.
/// Options: `messages(A, B)`; `snapshot` for a type that implements `Snapshot`; `crate = path` where Mobula is not at
/// `::mobula`, `name = "…"` for another registered name.
#[proc_macro_attribute]
pub fn actor(attr: TokenStream, item: TokenStream) -> TokenStream {
    actor::expand(attr.into(), item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}
