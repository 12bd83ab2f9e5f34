//! `#[remote]`, its `task`: the call of a function with arguments that travel.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Ident, PatType, Signature, Type, TypeReference, parse_quote};

use crate::args::{Args, unraw};
use crate::remote::{PARAMS_MAX, is_batch, name_of, outcome, refuse, result_of, typed};

/// A function as a task.
pub(crate) struct Call<'a> {
    parameters: Vec<Parameter>,
    outcome: &'a Type,
    /// The items of a stream.
    items: Option<Type>,
}

/// A parameter: what is stored of it, and how the function gets it.
struct Parameter {
    name: Ident,
    stored: Type,
    pass: Pass,
}

#[derive(Clone, Copy, PartialEq)]
enum Pass {
    Clone,
    CloneBatch,
    Shared,
    SharedBatch,
    Text,
    Slice,
}

impl<'a> Call<'a> {
    /// Reads the signature.
    pub(crate) fn of(signature: &'a Signature, args: &Args) -> syn::Result<Self> {
        let private = args.private();
        let batch: Type = parse_quote!(#private::Batch);
        let mut inputs = typed(signature)?;
        let items = inputs.last().and_then(|last| items(&last.ty));
        if items.is_some() {
            inputs.pop();
        }
        if let Some(over) = inputs.get(PARAMS_MAX) {
            return Err(refuse(over.span(), "a remote function takes at most 16 parameters: put them into a struct"));
        }
        let parameters = inputs.iter().enumerate().map(|(i, input)| parameter(i, input, &batch));
        Ok(Self { parameters: parameters.collect::<syn::Result<_>>()?, outcome: outcome(signature)?, items })
    }

    /// What the arguments and the result have to be able to do, for the compiler to say so in the right place.
    pub(crate) fn checks(&self, args: &Args) -> TokenStream {
        let private = args.private();
        let parameters = self.parameters.iter().map(|Parameter { stored, pass, .. }| match pass {
            Pass::Clone => quote_spanned!(stored.span()=> const _: fn() = #private::is_owned_argument::<#stored>;),
            _ => quote_spanned!(stored.span()=> const _: fn() = #private::is_argument::<#stored>;),
        });
        quote!(#(#parameters)*)
    }

    /// `fn task(..)`.
    pub(crate) fn method(&self, args: &Args, ident: &Ident) -> TokenStream {
        let private = args.private();
        let names: Vec<_> = self.parameters.iter().map(|parameter| &parameter.name).collect();
        let stored: Vec<_> = self.parameters.iter().map(|parameter| &parameter.stored).collect();
        let (outcome, label, name) = (self.outcome, unraw(ident), args.registered_name(ident));
        let run = self.run(&private, ident);
        let result = match &self.items {
            Some(items) => quote!(#items),
            None if result_of(outcome).is_some_and(is_batch) => quote!(#private::Batch),
            None => quote!(<#outcome as #private::TaskOutcome>::Value),
        };
        let (kind, new) = match self.items {
            Some(_) => (quote!(StreamTask), quote!(stream)),
            None => (quote!(Task), quote!(new)),
        };
        let about = format!("A call of `{label}`, to be submitted; each argument is a value or a reference to one.");
        quote! {
            #[doc = #about]
            fn task(#(#names: impl #private::IntoArg<#stored>),*) -> #private::#kind<#result> {
                #[#private::linkme::distributed_slice(#private::TASKS)]
                #[linkme(crate = #private::linkme)]
                static ENTRY: #private::TaskEntry = #private::TaskEntry {
                    name: #name,
                    place: ::core::concat!(::core::file!(), ":", ::core::line!()),
                    run: #run,
                };
                #private::Task::#new(
                    &ENTRY,
                    ::std::vec![#(#private::IntoArg::<#stored>::into_arg(#names)),*],
                )
            }
        }
    }

    /// Runs the function on the arguments of a call.
    fn run(&self, private: &TokenStream, ident: &Ident) -> TokenStream {
        let names: Vec<_> = self.parameters.iter().map(|parameter| &parameter.name).collect();
        let read = self
            .parameters
            .iter()
            .enumerate()
            .map(|(i, Parameter { name, stored, .. })| quote!(let #name = call.arg::<#stored>(#i)?;));
        let pass = self.parameters.iter().zip(&names).map(|(parameter, name)| match parameter.pass {
            Pass::Clone => quote!(::core::clone::Clone::clone(&*#name)),
            Pass::CloneBatch => quote!(::core::clone::Clone::clone(&#name.0)),
            Pass::Shared => quote!(&*#name),
            Pass::SharedBatch => quote!(&#name.0),
            Pass::Text => quote!(#name.as_str()),
            Pass::Slice => quote!(#name.as_slice()),
        });
        let end = match &self.items {
            Some(items) => quote! {
                let mut results = call.results::<#items>()?;
                #private::TaskOutcome::outcome(#ident(#(#pass,)* &mut results))?;
                #private::Call::result(::core::result::Result::Ok::<u32, ::std::convert::Infallible>(results.count()))
            },
            None if result_of(self.outcome).is_some_and(is_batch) => {
                quote!(#private::Call::result(#ident(#(#pass),*).map(#private::Batch)))
            }
            None => quote!(#private::Call::result(#ident(#(#pass),*))),
        };
        quote! {
            |call| {
                #(#read)*
                #end
            }
        }
    }
}

/// `&mut Results<R>`: the `R`.
fn items(ty: &Type) -> Option<Type> {
    let Type::Reference(TypeReference { mutability: Some(_), elem, .. }) = ty else { return None };
    is_results(elem).then(|| result_of(elem).cloned()).flatten()
}

fn is_results(ty: &Type) -> bool {
    matches!(ty, Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "Results"))
}

fn parameter(i: usize, input: &PatType, batch: &Type) -> syn::Result<Parameter> {
    let name = name_of(i, input);
    let (stored, pass) = match &*input.ty {
        Type::Reference(TypeReference { mutability: Some(_), elem, .. }) if is_results(elem) => {
            return Err(refuse(input.ty.span(), "`out: &mut Results<R>` is the last parameter"));
        }
        Type::Reference(TypeReference { mutability: Some(_), .. }) => {
            return Err(refuse(
                input.ty.span(),
                "a parameter of a remote function is `A` or `&A`, not `&mut`: stored values do not change",
            ));
        }
        Type::Reference(TypeReference { elem, .. }) => shared(elem, batch),
        Type::ImplTrait(_) => return Err(refuse(input.ty.span(), "a parameter has one named type")),
        ty if is_batch(ty) => (batch.clone(), Pass::CloneBatch),
        ty => (ty.clone(), Pass::Clone),
    };
    Ok(Parameter { name, stored, pass })
}

/// What is stored where a function borrows it.
fn shared(ty: &Type, batch: &Type) -> (Type, Pass) {
    match ty {
        Type::Slice(slice) => {
            let item = &slice.elem;
            (parse_quote!(::std::vec::Vec<#item>), Pass::Slice)
        }
        Type::Path(path) if path.path.is_ident("str") => (parse_quote!(::std::string::String), Pass::Text),
        ty if is_batch(ty) => (batch.clone(), Pass::SharedBatch),
        ty => (ty.clone(), Pass::Shared),
    }
}
