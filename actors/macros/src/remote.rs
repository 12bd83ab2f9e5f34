//! `#[remote]`: a function from batch to batch becomes an entry of the registry, with a `map` that names it.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{FnArg, Ident, ItemFn, PatType, ReturnType, Signature, Type};

use crate::args::{Args, unraw};

/// serde carries tuples up to this length, and the parameters travel as one.
const PARAMS_MAX: usize = 16;

/// What stands in place of the annotated function.
pub(crate) fn expand(attr: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let args: Args = syn::parse2(attr)?;
    let item: ItemFn = syn::parse2(item)
        .map_err(|e| syn::Error::new(e.span(), format!("#[remote] belongs on a free function with a body: {e}")))?;
    let function = Function::checked(&item.sig)?;
    let handle = handle(&args, &item, &function);
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
        check_qualifiers(signature)?;
        let mut typed = Vec::new();
        for input in &signature.inputs {
            match input {
                FnArg::Receiver(receiver) => return Err(refuse(receiver.span(), METHOD)),
                FnArg::Typed(parameter) => typed.push(parameter),
            }
        }
        check_batch(signature, typed.first().copied())?;
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

/// A type of the function's name that holds `map`. An empty enum, not a module: it lives in the function's own scope,
/// so the types of its parameters mean the same, also inside another function's body. The calls of remote tasks belong
/// here too.
fn handle(args: &Args, item: &ItemFn, function: &Function<'_>) -> TokenStream {
    let (private, ident, vis) = (args.private(), function.ident, &item.vis);
    let (names, types) = (&function.names, &function.types);
    let (name, label) = (args.registered_name(ident), unraw(ident));
    let cfgs = item.attrs.iter().filter(|a| a.path().is_ident("cfg"));
    let about = format!("The remote function `{label}` as an operator.");
    let map = format!("`{label}` as an operator for `map_batches`, with these parameters for each batch.");
    quote! {
        #(#cfgs)*
        #[doc = #about]
        #[allow(non_camel_case_types, clippy::empty_enums)]
        #vis enum #ident {}

        impl #ident {
            #[doc = #map]
            #[allow(dead_code, clippy::too_many_arguments)]
            #vis fn map(#(#names: #types),*) -> #private::OperatorSpec {
                #private::named_spec(#name, #label, &(#(#names,)*))
            }
        }
    }
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

fn check_batch(signature: &Signature, first: Option<&PatType>) -> syn::Result<()> {
    let span = first.map_or_else(|| signature.paren_token.span.join(), |first| first.ty.span());
    let is_batch = first.is_some_and(|first| match &*first.ty {
        Type::Path(path) => path.path.segments.last().is_some_and(|last| last.ident == "RecordBatch"),
        _ => false,
    });
    if is_batch { Ok(()) } else { Err(refuse(span, "the first parameter is the batch: `batch: RecordBatch`")) }
}

fn outcome(signature: &Signature) -> syn::Result<&Type> {
    match &signature.output {
        ReturnType::Type(_, outcome) => Ok(outcome),
        ReturnType::Default => {
            let span = signature.paren_token.span.close();
            Err(refuse(span, "a remote function returns `Result<RecordBatch, E>`, where `E` is any error"))
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
fn name_of(i: usize, parameter: &PatType) -> Ident {
    match &*parameter.pat {
        syn::Pat::Ident(pattern) => pattern.ident.clone(),
        _ => format_ident!("parameter_{}", i + 1),
    }
}

fn refuse(span: Span, message: &str) -> syn::Error {
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
            (quote! { fn f() -> R { b } }, "the first parameter is the batch"),
            (quote! { fn f(threshold: f64) -> R { b } }, "the first parameter is the batch"),
            (quote! { fn f(b: RecordBatch, name: &str) -> R { b } }, "by value"),
            (quote! { fn f(b: RecordBatch) {} }, "returns `Result<RecordBatch, E>`"),
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
