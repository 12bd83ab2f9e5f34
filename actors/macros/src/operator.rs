//! `#[operator]`: an implementation of `Operator` becomes an entry of the registry and an `IntoOperator`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::ItemImpl;
use syn::spanned::Spanned;

use crate::args::{Args, unraw};
use crate::named::{self, Kind};

/// What stands in place of the annotated `impl`.
pub(crate) fn expand(attr: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let args: Args = syn::parse2(attr)?;
    let item: ItemImpl = named::implementation(item, &OPERATOR)?;
    let ident = named::checked_type(&item, &OPERATOR)?;
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

/// How refusals speak of it.
const OPERATOR: Kind = Kind {
    attribute: "#[operator]",
    name: "Operator",
    noun: "an operator",
    otherwise: "; for a function use #[remote]",
    generic: "; implement it for one type, or pass a closure by `local(..)`",
};

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
