//! `#[source]`: an implementation of `Source` becomes an entry of the registry and an `IntoSource`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;

use crate::args::{Args, unraw};
use crate::named::{self, Kind};

/// What stands in place of the annotated `impl`.
pub(crate) fn expand(attr: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let args: Args = syn::parse2(attr)?;
    let item = named::implementation(item, &SOURCE)?;
    let ident = named::checked_type(&item, &SOURCE)?;
    let private = args.private();
    let ty = &item.self_ty;
    let name = args.registered_name(ident);
    let label = unraw(ident);
    let build = quote!(#private::build_source::<#ty>);
    let entry = args.entry_among(&quote!(SOURCES), &quote!(SourceEntry), &name, &build);
    let travels = quote_spanned!(ty.span()=> const _: fn() = #private::source_travels::<#ty>;);
    Ok(quote! {
        #item

        impl #private::IntoSource for #ty {
            fn into_source(self) -> #private::SourceSpec {
                #private::named_source(#name, #label, self)
            }
        }

        #travels
        #entry
    })
}

/// How refusals speak of it.
const SOURCE: Kind = Kind {
    attribute: "#[source]",
    name: "Source",
    noun: "a source",
    otherwise: "",
    generic: "; implement it for one type",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_plain_implementation_is_refused() {
        let error = |item| expand(TokenStream::new(), item).expect_err("refused").to_string();
        let methods = error(quote!(impl Files { fn open(&self) {} }));
        assert_eq!(methods, "#[source] belongs on `impl Source for YourType { .. }`, not on methods of a type");
        let generic = error(quote!(
            impl<T> Source for Files<T> {}
        ));
        assert!(generic.starts_with("a source that travels by name cannot be generic"), "{generic}");
    }

    #[test]
    fn the_entry_stands_among_the_sources() {
        let code = expand(quote!(crate = my::path, name = "x@1"), quote!(impl Source for Files {})).expect("fine");
        let code = code.to_string();
        assert!(code.contains("my :: path :: __private :: SOURCES") && code.contains("\"x@1\""), "{code}");
    }
}
