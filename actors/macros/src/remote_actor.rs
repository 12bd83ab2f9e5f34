//! `#[remote_actor]`: an implementation of `RemoteActor` becomes an entry of the registry and gets its name.

use proc_macro2::TokenStream;
use quote::quote;

use crate::args::Args;
use crate::named::{self, Kind};

/// What stands in place of the annotated `impl`.
pub(crate) fn expand(attr: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let args: Args = syn::parse2(attr)?;
    let item = named::implementation(item, &REMOTE_ACTOR)?;
    let ident = named::checked_type(&item, &REMOTE_ACTOR)?;
    let private = args.private();
    let ty = &item.self_ty;
    let name = args.registered_name(ident);
    let build = quote!(#private::build_actor::<#ty>);
    let entry = args.entry_among(&quote!(ACTORS), &quote!(ActorEntry), &name, &build);
    Ok(quote! {
        #item

        impl #private::NamedActor for #ty {
            const NAME: &'static str = #name;
        }

        #entry
    })
}

/// How refusals speak of it.
const REMOTE_ACTOR: Kind = Kind {
    attribute: "#[remote_actor]",
    name: "RemoteActor",
    noun: "a remote actor",
    otherwise: "",
    generic: "; implement it for one type",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_plain_implementation_is_refused() {
        let error = |item| expand(TokenStream::new(), item).expect_err("refused").to_string();
        let methods = error(quote!(impl Counter { fn handle(&mut self) {} }));
        assert!(methods.starts_with("#[remote_actor] belongs on `impl RemoteActor for YourType"), "{methods}");
        let generic = error(quote!(
            impl<T> RemoteActor for Counter<T> {}
        ));
        assert!(generic.starts_with("a remote actor that travels by name cannot be generic"), "{generic}");
    }

    #[test]
    fn the_entry_stands_among_the_actors() {
        let code = expand(quote!(crate = my::path, name = "x@1"), quote!(impl RemoteActor for Counter {}));
        let code = code.expect("fine").to_string();
        assert!(code.contains("my :: path :: __private :: ACTORS") && code.contains("\"x@1\""), "{code}");
        assert!(code.contains("NamedActor for Counter"), "{code}");
    }
}
