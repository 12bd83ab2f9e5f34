//! `#[remote]`: a function becomes an entry of the registry, with a `task` that calls it somewhere; one from batch to batch
//! also with a `map` that makes it an operator. The first is written in `task.rs`, the second here.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{FnArg, Ident, ItemFn, PatType, ReturnType, Signature, Type};

use crate::args::{Args, unraw};
use crate::task::Call;

/// serde carries tuples up to this length, and the parameters travel as one.
pub(crate) const PARAMS_MAX: usize = 16;

/// What stands in place of the annotated function.
pub(crate) fn expand(attr: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let args: Args = syn::parse2(attr)?;
    let item: ItemFn = syn::parse2(item)
        .map_err(|e| syn::Error::new(e.span(), format!("#[remote] belongs on a free function with a body: {e}")))?;
    check_qualifiers(&item.sig)?;
    let task = Call::of(&item.sig, &args)?;
    let (task_method, task_checks) = (task.method(&args, &item.sig.ident), task.checks(&args));
    if !is_map(&item.sig)? {
        let handle = handle(&args, &item, None, &task_method);
        return Ok(quote! {
            #item
            #handle
            #task_checks
        });
    }
    let function = Function::checked(&item.sig)?;
    let handle = handle(&args, &item, Some(&function), &task_method);
    let entry = args.entry(&args.registered_name(&item.sig.ident), &function.build(&args));
    let private = args.private();
    let travel =
        function.types.iter().map(|ty| quote_spanned!(ty.span()=> const _: fn() = #private::is_parameter::<#ty>;));
    let outcome = function.outcome;
    let returns = quote_spanned!(outcome.span()=> const _: fn() = #private::is_outcome::<#outcome>;);
    Ok(quote! {
        #item
        #handle
        #(#travel)*
        #returns
        #entry
        #task_checks
    })
}

/// The parts of a signature that the generated code needs.
struct Function<'a> {
    ident: &'a Ident,
    /// Names for the parameters behind the batch: the user's where he gave plain ones.
    names: Vec<Ident>,
    /// Their types.
    types: Vec<&'a Type>,
    /// What it returns.
    outcome: &'a Type,
}

impl<'a> Function<'a> {
    fn checked(signature: &'a Signature) -> syn::Result<Self> {
        let typed = typed(signature)?;
        let outcome = outcome(signature)?;
        let parameters = typed.get(1..).unwrap_or_default();
        check_parameters(parameters)?;
        let names = parameters.iter().enumerate().map(|(i, parameter)| name_of(i, parameter)).collect();
        Ok(Self { ident: &signature.ident, names, types: parameters.iter().map(|p| &*p.ty).collect(), outcome })
    }

    /// A function from encoded parameters to the operator.
    fn build(&self, args: &Args) -> TokenStream {
        let (private, ident, names, types) = (args.private(), self.ident, &self.names, &self.types);
        quote! {
            |params| {
                let (#(#names,)*) = #private::decode::<(#(#types,)*)>(params)?;
                ::core::result::Result::Ok(#private::batch_function(move |batch| {
                    #ident(batch #(, ::core::clone::Clone::clone(&#names))*)
                }))
            }
        }
    }
}

/// A type of the function's name that holds `task` and `map`. An empty enum, not a module: it lives in the function's own
/// scope, so the types of its parameters mean the same, also inside another function's body.
fn handle(args: &Args, item: &ItemFn, map: Option<&Function<'_>>, task: &TokenStream) -> TokenStream {
    let (ident, vis) = (&item.sig.ident, &item.vis);
    let cfgs = item.attrs.iter().filter(|a| a.path().is_ident("cfg"));
    let about = format!("The remote function `{}`.", unraw(ident));
    let map = map.map(|function| map_method(args, item, function));
    quote! {
        #(#cfgs)*
        #[doc = #about]
        #[allow(non_camel_case_types, clippy::empty_enums)]
        #vis enum #ident {}

        impl #ident {
            #map

            #[allow(dead_code, clippy::too_many_arguments)]
            #vis #task
        }
    }
}

fn map_method(args: &Args, item: &ItemFn, function: &Function<'_>) -> TokenStream {
    let (private, ident, vis) = (args.private(), function.ident, &item.vis);
    let (names, types) = (&function.names, &function.types);
    let (name, label) = (args.registered_name(ident), unraw(ident));
    let map = format!("`{label}` as an operator for `map_batches`, with these parameters for each batch.");
    quote! {
        #[doc = #map]
        #[allow(dead_code, clippy::too_many_arguments)]
        #vis fn map(#(#names: #types),*) -> #private::OperatorSpec {
            #private::named_spec(#name, #label, &(#(#names,)*))
        }
    }
}

/// The parameters of a free function.
pub(crate) fn typed(signature: &Signature) -> syn::Result<Vec<&PatType>> {
    let mut typed = Vec::with_capacity(signature.inputs.len());
    for input in &signature.inputs {
        match input {
            FnArg::Receiver(receiver) => return Err(refuse(receiver.span(), METHOD)),
            FnArg::Typed(parameter) => typed.push(parameter),
        }
    }
    Ok(typed)
}

/// Whether it goes from batch to batch, so that it can be an operator too.
fn is_map(signature: &Signature) -> syn::Result<bool> {
    let takes = typed(signature)?.first().is_some_and(|first| is_batch(&first.ty));
    Ok(takes && result_of(outcome(signature)?).is_none_or(is_batch))
}

/// Whether the type is called `RecordBatch`.
pub(crate) fn is_batch(ty: &Type) -> bool {
    matches!(ty, Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "RecordBatch"))
}

/// The `R` of a `Result<R, ..>`, if it is written out.
pub(crate) fn result_of(outcome: &Type) -> Option<&Type> {
    let Type::Path(path) = outcome else { return None };
    let syn::PathArguments::AngleBracketed(arguments) = &path.path.segments.last()?.arguments else { return None };
    arguments.args.iter().find_map(|argument| match argument {
        syn::GenericArgument::Type(ty) => Some(ty),
        _ => None,
    })
}

fn check_qualifiers(signature: &Signature) -> syn::Result<()> {
    if let Some(token) = &signature.asyncness {
        return Err(refuse(
            token.span,
            "a remote function is not async: it computes on a worker's thread; drop `async`",
        ));
    }
    if let Some(token) = &signature.unsafety {
        return Err(refuse(token.span, "a remote function is not unsafe: the engine calls it"));
    }
    if let Some(abi) = &signature.abi {
        return Err(refuse(abi.span(), "a remote function has no foreign calling convention"));
    }
    if !signature.generics.params.is_empty() {
        let span = signature.generics.span();
        return Err(refuse(span, "a remote function cannot be generic: it is registered once, under one name"));
    }
    Ok(())
}

pub(crate) fn outcome(signature: &Signature) -> syn::Result<&Type> {
    match &signature.output {
        ReturnType::Type(_, outcome) => Ok(outcome),
        ReturnType::Default => {
            let span = signature.paren_token.span.close();
            Err(refuse(span, "a remote function returns `Result<R, E>`, where `E` is any error"))
        }
    }
}

fn check_parameters(parameters: &[&PatType]) -> syn::Result<()> {
    if let Some(over) = parameters.get(PARAMS_MAX) {
        return Err(refuse(over.span(), "a remote function takes at most 16 parameters: put them into a struct"));
    }
    for parameter in parameters {
        match &*parameter.ty {
            Type::Reference(_) => return Err(refuse(parameter.ty.span(), BORROWED)),
            Type::ImplTrait(_) => return Err(refuse(parameter.ty.span(), "a parameter has one named type")),
            _ => {}
        }
    }
    Ok(())
}

/// The user's name of a parameter, or `parameter_1`, `parameter_2`, .. where he destructures it.
pub(crate) fn name_of(i: usize, parameter: &PatType) -> Ident {
    match &*parameter.pat {
        syn::Pat::Ident(pattern) => pattern.ident.clone(),
        _ => format_ident!("parameter_{}", i + 1),
    }
}

pub(crate) fn refuse(span: Span, message: &str) -> syn::Error {
    syn::Error::new(span, message)
}

const METHOD: &str = "a remote function is not a method: for state, implement `Operator` and use #[operator]";
const BORROWED: &str =
    "parameters of a remote function are passed by value, they travel: use an owned type such as String";

#[cfg(test)]
mod tests {
    use super::*;

    fn error(item: TokenStream) -> String {
        expand(TokenStream::new(), item).expect_err("refused").to_string()
    }

    #[test]
    fn functions_that_cannot_travel_are_refused_with_the_reason() {
        let cases = [
            (quote! { async fn f(b: RecordBatch) -> R { b } }, "not async"),
            (quote! { fn f(&self, b: RecordBatch) -> R { b } }, "not a method"),
            (quote! { fn f<T>(b: RecordBatch, t: T) -> R { b } }, "cannot be generic"),
            (quote! { unsafe fn f(b: RecordBatch) -> R { b } }, "not unsafe"),
            (quote! { fn f(a: &mut u64) -> R { b } }, "not `&mut`"),
            (quote! { fn f(a: impl Copy) -> R { b } }, "one named type"),
            (quote! { fn f(out: &mut Results<u64>, a: u64) -> R { b } }, "the last parameter"),
            (quote! { fn f(b: RecordBatch, name: &str) -> R { b } }, "by value"),
            (quote! { fn f(b: RecordBatch) {} }, "returns `Result<R, E>`"),
            (quote! { struct S; }, "belongs on a free function"),
        ];
        for (item, reason) in cases {
            let error = error(item);
            assert!(error.contains(reason), "{reason:?} is not in {error:?}");
        }
    }

    #[test]
    fn a_destructured_parameter_gets_a_name() {
        let code = expand(
            TokenStream::new(),
            quote!(
                fn f(b: RecordBatch, (x, y): (u8, u8)) -> R {
                    b
                }
            ),
        );
        assert!(code.expect("fine").to_string().contains("parameter_1 : (u8 , u8)"));
    }
}
