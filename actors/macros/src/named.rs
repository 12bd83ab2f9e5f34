//! What `#[operator]` and `#[source]` share: the check that they stand on the implementation of a trait for a plain type.

use proc_macro2::TokenStream;
use syn::spanned::Spanned;
use syn::{Ident, ItemImpl, PathArguments, Type};

/// How refusals speak of what an attribute registers.
pub(crate) struct Kind {
    /// `#[operator]`
    pub(crate) attribute: &'static str,
    /// The trait: `Operator`.
    pub(crate) name: &'static str,
    /// `an operator`
    pub(crate) noun: &'static str,
    /// What else might have been meant by methods of a type, behind a separator; or nothing.
    pub(crate) otherwise: &'static str,
    /// What to do instead of being generic, behind a separator; or nothing.
    pub(crate) generic: &'static str,
}

/// The annotated item as an implementation.
pub(crate) fn implementation(item: TokenStream, kind: &Kind) -> syn::Result<ItemImpl> {
    let Kind { attribute, name, .. } = kind;
    syn::parse2(item).map_err(|e| {
        syn::Error::new(e.span(), format!("{attribute} belongs on `impl {name} for YourType {{ .. }}`: {e}"))
    })
}

/// The identifier of the type, if the `impl` is one of a trait for a plain type.
pub(crate) fn checked_type<'a>(item: &'a ItemImpl, kind: &Kind) -> syn::Result<&'a Ident> {
    let Kind { attribute, name, noun, otherwise, generic } = kind;
    if item.trait_.is_none() {
        let message =
            format!("{attribute} belongs on `impl {name} for YourType {{ .. }}`, not on methods of a type{otherwise}");
        return Err(syn::Error::new(item.impl_token.span, message));
    }
    if !item.generics.params.is_empty() {
        let why = "it is registered once, under one name";
        let message = format!("{noun} that travels by name cannot be generic: {why}{generic}");
        return Err(syn::Error::new(item.generics.span(), message));
    }
    let not_plain = || syn::Error::new(item.self_ty.span(), format!("{noun} is a plain struct or enum of your own"));
    let Type::Path(path) = &*item.self_ty else { return Err(not_plain()) };
    let last = path.path.segments.last().ok_or_else(not_plain)?;
    match last.arguments {
        PathArguments::None => Ok(&last.ident),
        _ => Err(syn::Error::new(
            last.arguments.span(),
            format!("{noun} that travels by name cannot be generic: wrap this type in a struct of your own"),
        )),
    }
}
