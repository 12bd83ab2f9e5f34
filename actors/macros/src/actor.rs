//! `#[actor]`: an actix actor becomes an entry of the registry, and its messages get their numbers.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Ident, Token, Type, parenthesized};

use crate::args::Args;
use crate::named::{self, Kind};

/// What stands in the parentheses beside what all attributes have.
#[derive(Default)]
struct ActorArgs {
    args: Args,
    messages: Vec<Type>,
    snapshot: bool,
}

impl Parse for ActorArgs {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut all = Self::default();
        while !input.is_empty() {
            all.option(input)?;
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(all)
    }
}

impl ActorArgs {
    fn option(&mut self, input: ParseStream<'_>) -> syn::Result<()> {
        let ahead = input.fork();
        let key = if ahead.peek(Token![crate]) { None } else { ahead.parse::<Ident>().ok() };
        match key {
            Some(key) if key == "messages" => {
                input.parse::<Ident>()?;
                let list;
                parenthesized!(list in input);
                self.messages = Punctuated::<Type, Token![,]>::parse_terminated(&list)?.into_iter().collect();
                Ok(())
            }
            Some(key) if key == "snapshot" => {
                input.parse::<Ident>()?;
                self.snapshot = true;
                Ok(())
            }
            Some(key) if key != "name" => {
                let message = format!("unknown option `{key}`; there are: crate, name, messages, snapshot");
                Err(syn::Error::new(key.span(), message))
            }
            _ => self.args.option(input),
        }
    }
}

/// What stands in place of the annotated `impl`.
pub(crate) fn expand(attr: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let ActorArgs { args, messages, snapshot } = syn::parse2(attr)?;
    let item = named::implementation(item, &ACTOR)?;
    let ident = named::checked_type(&item, &ACTOR)?;
    let private = args.private();
    let ty = &item.self_ty;
    let name = args.registered_name(ident);
    let entry = args.entry_among(&quote!(ACTORS), &quote!(ActorEntry), &name, &quote!(#private::host_actor::<#ty>));
    let snapshot = match snapshot {
        true => quote!(::core::option::Option::Some(#private::take_snapshot::<#ty>)),
        false => quote!(::core::option::Option::None),
    };
    let numbers = 0u16..;
    let accepts = messages.iter().zip(numbers).map(|(message, number)| {
        quote! {
            impl #private::Accepts<#message> for #ty {
                const NUMBER: u16 = #number;
            }
        }
    });
    Ok(quote! {
        #item

        impl #private::NamedActor for #ty {
            const NAME: &'static str = #name;
            const MESSAGES: &'static [#private::MessageEntry<Self>] =
                &[#(#private::message_entry::<#ty, #messages>()),*];
            const SNAPSHOT: ::core::option::Option<#private::TakeSnapshot<Self>> = #snapshot;
        }

        impl #private::actix::Handler<#private::Work<#ty>> for #ty {
            type Result = ();

            fn handle(&mut self, work: #private::Work<#ty>, ctx: &mut #private::actix::Context<Self>) {
                work.run(self, ctx);
            }
        }

        #(#accepts)*

        #entry
    })
}

/// How refusals speak of it.
const ACTOR: Kind = Kind {
    attribute: "#[actor]",
    name: "Actor",
    noun: "an actor",
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
        assert!(methods.starts_with("#[actor] belongs on `impl Actor for YourType"), "{methods}");
        let generic = error(quote!(
            impl<T> Actor for Counter<T> {}
        ));
        assert!(generic.starts_with("an actor that travels by name cannot be generic"), "{generic}");
    }

    #[test]
    fn an_option_that_is_not_known_is_refused_with_those_there_are() {
        let error = expand(quote!(message(Add)), quote!(impl Actor for Counter {})).expect_err("refused").to_string();
        assert_eq!(error, "unknown option `message`; there are: crate, name, messages, snapshot");
    }

    #[test]
    fn the_entry_stands_among_the_actors_and_messages_are_numbered() {
        let attr = quote!(crate = my::path, name = "x@1", messages(Add, Get), snapshot);
        let code = expand(attr, quote!(impl Actor for Counter {})).expect("fine").to_string();
        assert!(code.contains("my :: path :: __private :: ACTORS") && code.contains("\"x@1\""), "{code}");
        assert!(code.contains("Accepts < Get > for Counter { const NUMBER : u16 = 1u16 ; }"), "{code}");
        assert!(code.contains("take_snapshot :: < Counter >"), "{code}");
    }
}
