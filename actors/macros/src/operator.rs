//! `#[operator]`: an implementation of `Operator` becomes an entry of the registry and an `IntoOperator`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Ident, ItemImpl, PathArguments, Type};

use crate::args::{Args, unraw};

/// What stands in place of the annotated `impl`.
pub(crate) fn expand(attr: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let args: Args = syn::parse2(attr)?;
    let item: ItemImpl = syn::parse2(item).map_err(|e| {
        syn::Error::new(e.span(), format!("#[operator] belongs on `impl Operator for YourType {{ .. }}`: {e}"))
    })?;
    let ident = checked_type(&item)?;
    let private = args.private();
    let ty = &item.self_ty;
    let name = args.registered_name(ident);
    let label = unraw(ident);
    let entry = args.entry(&name, &quote!(#private::build_operator::<#ty>));
    let travels = quote_spanned!(ty.span()=> const _: fn() = #private::travels::<#ty>;);
    Ok(quote! {
        #item

        impl #private::IntoOperator for #ty {
            fn into_operator(self) -> #private::OperatorSpec {
                #private::named_spec(#name, #label, &self)
            }
        }

        #travels
        #entry
    })
}

/// The identifier of the type, if the `impl` is one of a trait for a plain type.
fn checked_type(item: &ItemImpl) -> syn::Result<&Ident> {
    if item.trait_.is_none() {
        return Err(syn::Error::new(
            item.impl_token.span,
            "#[operator] belongs on `impl Operator for YourType { .. }`, not on methods of a type; \
             for a function use #[remote]",
        ));
    }
    if !item.generics.params.is_empty() {
        return Err(syn::Error::new(
            item.generics.span(),
            "an operator that travels by name cannot be generic: it is registered once, under one name; \
             implement it for one type, or pass a closure by `local(..)`",
        ));
    }
    let not_plain = || syn::Error::new(item.self_ty.span(), "an operator is a plain struct or enum of your own");
    let Type::Path(path) = &*item.self_ty else { return Err(not_plain()) };
    let last = path.path.segments.last().ok_or_else(not_plain)?;
    match last.arguments {
        PathArguments::None => Ok(&last.ident),
        _ => Err(syn::Error::new(
            last.arguments.span(),
            "an operator that travels by name cannot be generic: wrap this type in a struct of your own",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(item: TokenStream) -> String {
        expand(TokenStream::new(), item).expect_err("refused").to_string()
    }

    #[test]
    fn what_is_no_plain_implementation_is_refused_with_a_next_step() {
        assert!(error(quote!(impl Embed { fn process(&mut self) {} })).contains("for a function use #[remote]"));
        assert!(
            error(quote!(
                impl<T> Operator for Embed<T> {}
            ))
            .contains("cannot be generic")
        );
        assert!(error(quote!(impl Operator for Embed<u8> {})).contains("wrap this type"));
        assert!(error(quote!(impl Operator for (u8, u8) {})).contains("plain struct"));
        assert!(
            error(quote!(
                struct Embed;
            ))
            .contains("belongs on `impl Operator for YourType")
        );
    }

    #[test]
    fn an_unknown_option_is_refused_naming_the_known() {
        let error = expand(quote!(nome = "x"), quote!(impl Operator for Embed {})).expect_err("refused").to_string();
        assert_eq!(error, "unknown option `nome`; there are: crate, name");
    }

    #[test]
    fn generated_code_names_only_the_given_crate() {
        let code = expand(quote!(crate = my::path), quote!(impl Operator for Embed {})).expect("fine").to_string();
        assert!(code.contains("my :: path :: __private") && !code.contains(":: mobula"), "{code}");
    }
}
